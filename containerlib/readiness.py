"""Noticing that a program listens, by the kernel's word where it gives one.

The tracepoint sock:inet_sock_set_state tells of every socket that starts to listen, anywhere on the host, within 0.1 ms; a
trace instance of our own filters for exactly that. Each such line makes us look (sock_diag, 60 microseconds) at the few
containers that are starting. Without tracefs we look again and again, each time after 2 % of the time waited so far.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from containerlib import kernel
from containerlib.sockdiag import SocketDiag, TcpSocket

TRACEFS = Path("/sys/kernel/tracing")
_TCP_LISTEN, _IPPROTO_TCP = 10, 6
POLL_MIN_S, POLL_SHARE = 0.002, 0.02
# With events polling is only the safety net, and the tracepoint fires a moment before the socket can be found.
EVENT_POLL_MIN_S, AFTER_EVENT_S = 0.05, (0.0005, 0.002, 0.008)
CONCURRENCY_DEFAULT = 32
_log = logging.getLogger(__name__)


class Listening(StrEnum):
    NO = "no"
    YES = "yes"
    LOOPBACK_ONLY = "loopback_only"
    OTHER_PORT = "other_port"


@dataclass(frozen=True, slots=True)
class Finding:
    listening: Listening
    backlog: int = 0
    ports: tuple[int, ...] = ()


def judge(sockets: list[TcpSocket], port: int) -> Finding:
    """Pure: what the listening sockets of a namespace say about an app that should listen on `port`."""
    on_port = [found for found in sockets if found.local_port == port]
    reachable = [found for found in on_port if not found.is_loopback_only]
    if reachable:
        return Finding(Listening.YES, max(found.queue_max for found in reachable))
    if on_port:
        return Finding(Listening.LOOPBACK_ONLY)
    if sockets:
        return Finding(Listening.OTHER_PORT, ports=tuple(sorted({found.local_port for found in sockets})))
    return Finding(Listening.NO)


def why_not(finding: Finding, port: int, timeout_s: float, said_by: str) -> str:
    """In words for the owner; `said_by` is where the port was asked for."""
    match finding.listening:
        case Listening.LOOPBACK_ONLY:
            return f"it listens on port {port} of 127.0.0.1 only; it must listen on 0.0.0.0"
        case Listening.OTHER_PORT:
            ports = ", ".join(map(str, finding.ports))
            return f"it listens on port {ports}, not on port {port} ({said_by})"
        case _:
            return f"it did not listen on port {port} within {timeout_s:g} s"


def concurrency_of(backlog: int, asked: int | None) -> int:
    """How many requests a program is given at once before it answered any: what its backlog can hold, 32 at most."""
    return asked if asked is not None else max(1, min(CONCURRENCY_DEFAULT, backlog or CONCURRENCY_DEFAULT))


class ListenEvents:
    """Calls back, in the loop, each time anything on the host starts to listen."""

    def __init__(self, name: str) -> None:
        self._instance = TRACEFS / "instances" / name
        self._pipe = -1
        self._switch = -1
        self._callbacks: set[Callable[[], None]] = set()

    @property
    def is_open(self) -> bool:
        return self._pipe >= 0

    def open(self) -> None:
        """Raises OSError where the kernel offers no such event, or tracefs is not mounted (see mount_tracefs)."""
        self._instance.mkdir(exist_ok=True)
        event = self._instance / "events/sock/inet_sock_set_state"
        (self._instance / "buffer_percent").write_text("0")  # else a reader is woken only when half a buffer is full
        (self._instance / "buffer_size_kb").write_text("16")
        (event / "filter").write_text(f"newstate=={_TCP_LISTEN} && protocol=={_IPPROTO_TCP}")
        (event / "enable").write_text("1")  # takes a millisecond, the switch a few microseconds
        self._switch = os.open(self._instance / "tracing_on", os.O_WRONLY | os.O_CLOEXEC)
        os.write(self._switch, b"0")
        self._pipe = os.open(self._instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._pipe, self._read)

    def add(self, callback: Callable[[], None]) -> None:
        if not self._callbacks and self.is_open:
            os.write(self._switch, b"1")
        self._callbacks.add(callback)

    def discard(self, callback: Callable[[], None]) -> None:
        """With nobody left who starts, a program that listens again and again costs this process nothing."""
        self._callbacks.discard(callback)
        if not self._callbacks and self.is_open:
            os.write(self._switch, b"0")

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while len(os.read(self._pipe, 65536)) == 65536:
                pass
        for callback in tuple(self._callbacks):
            callback()

    def close(self) -> None:
        if self._pipe >= 0:
            asyncio.get_running_loop().remove_reader(self._pipe)
            os.close(self._pipe)
            os.close(self._switch)
            self._pipe = -1
        remove_instance(self._instance.name)


def mount_tracefs() -> bool:
    """True if it was not mounted before. Raises OSError where the kernel has none."""
    if (TRACEFS / "instances").is_dir():
        return False
    kernel.mount("tracefs", str(TRACEFS), "tracefs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    return True


def unmount_tracefs() -> None:
    kernel.umount2(str(TRACEFS), 0)


def remove_instance(name: str) -> None:
    """A predecessor's may be left: removing it is all that it needs."""
    instance = TRACEFS / "instances" / name
    if instance.is_dir():
        (instance / "events/sock/inet_sock_set_state/enable").write_text("0")
        instance.rmdir()


async def wait_until_listening(diag: SocketDiag, port: int, events: ListenEvents, timeout_s: float) -> Finding:
    """The first finding that is YES, or the last one when the time is over."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    woken = asyncio.Event()
    events.add(woken.set)
    pauses: list[float] = []
    try:
        while True:
            finding = judge(diag.listening(), port)
            waited = loop.time() - began
            if finding.listening is Listening.YES or waited >= timeout_s:
                return finding
            pause = (
                pauses.pop(0)
                if pauses
                else max(EVENT_POLL_MIN_S if events.is_open else POLL_MIN_S, POLL_SHARE * waited)
            )
            try:
                async with asyncio.timeout(min(pause, timeout_s - waited)):
                    await woken.wait()
                woken.clear()
                pauses = list(AFTER_EVENT_S)
            except TimeoutError:
                pass
    finally:
        events.discard(woken.set)


async def answers_health(address: str, port: int, path: str, host: str) -> bool:
    """Below 500. One request on a connection of its own; what is not HTTP does not answer."""
    try:
        reader, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: fastcontainer-health\r\nConnection: close\r\n\r\n".encode()
        )
        words = (await reader.readline()).split()
        return len(words) >= 2 and words[0].startswith(b"HTTP/") and words[1].isdigit() and int(words[1]) < 500
    except (OSError, ValueError):
        return False
    finally:
        writer.close()
