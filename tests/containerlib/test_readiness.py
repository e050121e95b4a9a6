"""Noticing listen(): what the sockets mean, and how soon a real one is noticed."""

import asyncio
import os
import select
import socket
import statistics
import threading
import time
from collections.abc import Iterator

import pytest

from containerlib import readiness
from containerlib.readiness import (
    Finding,
    ListenEvents,
    Listening,
    answers_health,
    concurrency_of,
    judge,
    wait_until_listening,
    why_not,
)
from containerlib.sockdiag import TCP_LISTEN, SocketDiag, TcpSocket


def listener(port: int, address: str = "0.0.0.0", backlog: int = 5) -> TcpSocket:
    return TcpSocket(TCP_LISTEN, address, port, "0.0.0.0", 0, backlog, 1)


@pytest.mark.parametrize(
    ("sockets", "expected"),
    [
        ([], Finding(Listening.NO)),
        ([listener(80)], Finding(Listening.YES, 5)),
        ([listener(80, "100.96.0.7")], Finding(Listening.YES, 5)),
        ([listener(80, "::")], Finding(Listening.YES, 5)),
        ([listener(80, "127.0.0.1")], Finding(Listening.LOOPBACK_ONLY)),
        ([listener(80, "::1")], Finding(Listening.LOOPBACK_ONLY)),
        ([listener(80, "127.0.0.1"), listener(80, "100.96.0.7")], Finding(Listening.YES, 5)),
        ([listener(8000), listener(443), listener(443, "::")], Finding(Listening.OTHER_PORT, ports=(443, 8000))),
        ([listener(9000, "127.0.0.1"), listener(80, "127.0.0.1")], Finding(Listening.LOOPBACK_ONLY)),
        ([listener(80, backlog=5), listener(80, "::", backlog=511)], Finding(Listening.YES, 511)),
    ],
)
def test_judge(sockets: list[TcpSocket], expected: Finding) -> None:
    assert judge(sockets, 80) == expected


@pytest.mark.parametrize(
    ("backlog", "asked", "expected"),
    [(5, None, 5), (511, None, 32), (0, None, 32), (1, None, 1), (5, 200, 200), (511, 1, 1)],
)
def test_concurrency(backlog: int, asked: int | None, expected: int) -> None:
    assert concurrency_of(backlog, asked) == expected


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def diag() -> Iterator[SocketDiag]:
    diag = SocketDiag()
    yield diag
    diag.close()


class Listener:
    """Binds and listens, in another thread, after a while; remembers when."""

    def __init__(self, after_s: float, address: str = "0.0.0.0") -> None:
        self.port = free_port()
        self.listened = 0.0
        self._server = socket.socket()
        self._server.bind((address, self.port))
        self._thread = threading.Timer(after_s, self._listen)
        self._thread.start()

    def _listen(self) -> None:
        self._server.listen(5)
        self.listened = time.monotonic()

    def close(self) -> None:
        self._thread.cancel()
        self._thread.join()
        self._server.close()


async def noticed_after(diag: SocketDiag, events: ListenEvents, boot_s: float) -> float:
    listener = Listener(boot_s)
    try:
        finding = await wait_until_listening(diag, listener.port, events, 10)
        assert finding == Finding(Listening.YES, 5)
        return time.monotonic() - listener.listened
    finally:
        listener.close()


async def test_polling_notices_within_2_ms_or_2_percent(diag: SocketDiag) -> None:
    events = ListenEvents("never-opened")
    quick = [await noticed_after(diag, events, 0.02) for _ in range(15)]
    assert statistics.median(quick) <= 0.0035  # 2 ms, and what this machine takes to wake two threads
    slow = [await noticed_after(diag, events, 0.5) for _ in range(3)]
    assert statistics.median(slow) <= 0.5 * 0.02 + 0.003


async def test_a_program_that_listens_already_is_found_at_once(diag: SocketDiag) -> None:
    with socket.create_server(("0.0.0.0", 0), backlog=3) as server:
        finding = await wait_until_listening(diag, server.getsockname()[1], ListenEvents("never-opened"), 0)
        assert finding == Finding(Listening.YES, 3)


async def test_when_the_time_is_over_the_last_finding_says_what_was_wrong(diag: SocketDiag) -> None:
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        finding = await wait_until_listening(diag, server.getsockname()[1], ListenEvents("never-opened"), 0.1)
    assert finding.listening is Listening.LOOPBACK_ONLY
    assert 0.1 <= time.monotonic() - began < 0.3


class Counting:
    """Of a program that never listens: how often it is looked at."""

    looks = 0

    def listening(self) -> list[TcpSocket]:
        self.looks += 1
        return []


async def test_polling_slows_down_as_time_goes_by() -> None:
    counting = Counting()
    await wait_until_listening(counting, 80, ListenEvents("never-opened"), 1.0)  # type: ignore[arg-type]
    # Every 2 ms in the first 100 ms, then each time after 2 % more: 50 + ln(10) / ln(1.02).
    assert counting.looks <= 175


async def test_nobody_is_called_back_after_the_wait(diag: SocketDiag) -> None:
    events = ListenEvents("never-opened")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await wait_until_listening(diag, free_port(), events, 5)
    assert not events._callbacks


@pytest.mark.system
async def test_by_the_kernels_event_it_is_noticed_within_2_ms_whatever_the_boot_took(diag: SocketDiag) -> None:
    mounted = readiness.mount_tracefs()
    events = ListenEvents(f"fctest-{os.getpid()}")
    try:
        events.open()
        assert events.is_open
        times = [await noticed_after(diag, events, boot_s) for boot_s in (0.01, 0.03, 0.1, 0.3) * 4]
        assert statistics.median(times) <= 0.002
    finally:
        events.close()
        if mounted:
            readiness.unmount_tracefs()
    assert not events.is_open
    assert not (readiness.TRACEFS / "instances" / f"fctest-{os.getpid()}").exists()


def readable(events: ListenEvents) -> bool:
    return bool(select.select([events._pipe], [], [], 0.05)[0])


@pytest.mark.system
async def test_a_program_that_listens_again_and_again_is_heard_only_while_somebody_starts() -> None:
    mounted = readiness.mount_tracefs()
    events = ListenEvents(f"fctest-{os.getpid()}")
    events.open()
    heard = asyncio.Event()

    def listen() -> None:
        socket.create_server(("127.0.0.1", 0)).close()

    listen()
    assert not readable(events)
    events.add(heard.set)
    listen()
    async with asyncio.timeout(2):
        await heard.wait()
    events.discard(heard.set)
    listen()
    assert not readable(events)
    events.close()
    if mounted:
        readiness.unmount_tracefs()


@pytest.mark.system
async def test_what_a_predecessor_left_in_tracefs_is_taken_over_and_removed() -> None:
    mounted = readiness.mount_tracefs()
    name = f"fctest-{os.getpid()}"
    killed = ListenEvents(name)
    killed.open()
    asyncio.get_running_loop().remove_reader(killed._pipe)
    for fd in (killed._pipe, killed._switch):  # as its death does
        os.close(fd)
    again = ListenEvents(name)
    again.open()
    again.close()
    readiness.remove_instance(name)
    assert not (readiness.TRACEFS / "instances" / name).exists()
    if mounted:
        readiness.unmount_tracefs()


async def answer(text: bytes, *, cut: bool = False) -> bool:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"GET /up HTTP/1.1\r\nHost: blog\r\n")
        writer.write(text)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(5):
            return await answers_health("127.0.0.1", port, "/up", "blog")


@pytest.mark.parametrize(
    ("text", "healthy"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", True),
        (b"HTTP/1.1 499\r\n\r\n", True),
        (b"HTTP/1.1 500 Oops\r\n\r\n", False),
        (b"HTTP/1.1 503\r\n\r\n", False),
        (b"", False),
        (b"SSH-2.0-OpenSSH\r\n", False),
        (b"HTTP/1.1 abc\r\n", False),
        (b"HTTP/1.1\r\n", False),
        (b"x" * 200_000, False),
    ],
)
async def test_health(text: bytes, healthy: bool) -> None:
    assert await answer(text) is healthy


async def test_who_refuses_the_connection_is_not_healthy() -> None:
    assert not await answers_health("127.0.0.1", free_port(), "/up", "blog")


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        (Finding(Listening.NO), "it did not listen on port 80 within 5 s"),
        (Finding(Listening.LOOPBACK_ONLY), "it listens on port 80 of 127.0.0.1 only; it must listen on 0.0.0.0"),
        (
            Finding(Listening.OTHER_PORT, ports=(443, 8080)),
            "it listens on port 443, 8080, not on port 80 (its definition's readiness)",
        ),
    ],
)
def test_what_a_program_does_instead_is_said(finding: Finding, words: str) -> None:
    assert why_not(finding, 80, 5.0, "its definition's readiness") == words
