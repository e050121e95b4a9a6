"""Requests at fixed times, whether answers are slow or not, and a fixed number of them as fast as they are answered.

`wrk` finds what a row can do at most; it neither sends at fixed times nor stops after a number of requests. This is Python,
good for some thousand requests a second.
"""

import asyncio
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.coldstart.visit import Address

ANSWER_S_MAX = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_COUNT = re.compile(r"(\d+) requests in ([\d.]+)(us|ms|s|m),")
_BAD = re.compile(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Target:
    address: Address
    host: str
    page: bytes

    def request(self, keep: bool) -> bytes:
        close = "" if keep else "Connection: close\r\n"
        return f"GET / HTTP/1.1\r\nHost: {self.host}\r\n{close}\r\n".encode()


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = bytearray()
        self._answered: asyncio.Future[bytes] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or self._answered is None or self._answered.done():
            return
        if (length := _LENGTH.search(self._received, 0, end + 2)) is None:
            self._answered.set_exception(ValueError(f"no Content-Length in {bytes(self._received[:500])!r}"))
        elif len(self._received) >= end + 4 + int(length[1]):
            self._answered.set_result(bytes(self._received))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or EOFError(f"closed after {bytes(self._received[:500])!r}"))

    async def ask(self, request: bytes) -> bytes:
        self._received.clear()
        self._answered = asyncio.get_running_loop().create_future()
        assert self.transport is not None
        self.transport.write(request)
        async with asyncio.timeout(ANSWER_S_MAX):
            return await self._answered

    def close(self) -> None:
        assert self.transport is not None
        self.transport.close()


class _Client:
    """Idle connections, as many as were ever needed at once."""

    def __init__(self, target: Target, keep: bool) -> None:
        self._target = target
        self._keep = keep
        self._request = target.request(keep)
        self._idle: list[_Connection] = []

    async def ask(self) -> None:
        """Raises OSError, EOFError, TimeoutError, or ValueError for anything but the page."""
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            answer = await connection.ask(self._request)
        except BaseException:
            connection.close()
            raise
        if self._keep and b"onnection: close" not in answer:
            self._idle.append(connection)
        else:
            connection.close()
        if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(self._target.page):
            raise ValueError(f"answered {answer[:500]!r} instead of the page")

    async def _connect(self) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, *self._target.address)
        return connection

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


def at_rate(target: Target, rate: float, count: int, *, keep: bool) -> list[float]:
    """Milliseconds from when each request was due to the end of its answer."""

    async def one(client: _Client, due: float) -> float:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await client.ask()
        return (time.perf_counter() - due) * 1000

    async def all_of_them() -> list[float]:
        client = _Client(target, keep)
        began = time.perf_counter() + 0.05
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(client, began + number / rate)) for number in range(count)]
        finally:
            client.close()
        return [task.result() for task in tasks]

    return asyncio.run(all_of_them())


def in_turn(target: Target, count: int, connections: int) -> None:
    """A fixed number of requests, on connections that are kept, each as soon as the one before is answered."""

    async def some(client: _Client, number: int) -> None:
        for _ in range(number, count, connections):
            await client.ask()

    async def all_of_them() -> None:
        client = _Client(target, keep=True)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(connections):
                    group.create_task(some(client, number))
        finally:
            client.close()

    asyncio.run(all_of_them())


def most(target: Target, seconds: float, connections: int, *, keep: bool) -> float:
    """Requests a second, by wrk. Raises ValueError where any of them failed."""
    command: Sequence[str] = (
        "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", f"{ANSWER_S_MAX:g}s",
        "-H", f"Host: {target.host}", *(() if keep else ("-H", "Connection: close")),
        f"http://{target.address[0]}:{target.address[1]}/",
    )  # fmt: skip
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return rate_of(output)


def rate_of(output: str) -> float:
    """Pure: what wrk printed -> requests a second. Raises ValueError."""
    if (bad := _BAD.search(output)) is not None:
        raise ValueError(f"wrk: {bad[0]}")
    counted = _COUNT.search(output)
    if counted is None or not int(counted[1]):
        raise ValueError(f"wrk: {output[-500:]}")
    return int(counted[1]) / (float(counted[2]) * _SECONDS[counted[3]])
