"""Hostile HTTP/2 at the UserLB, frame by frame. The UserProxies do not speak it."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import hpack
import pytest
from hyperframe.frame import ContinuationFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

from dispatcher.userlb.lanes import Allow, Open, Route, SlotId
from tests.abuse.recorder import Recorder
from tests.abuse.test_abuse import check_what_the_site_got
from tests.dispatcher.userlb.conftest import front as front
from tests.fakes.ports import free_port

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SECURE = pytest.mark.parametrize("front", [{"secure": (f"127.0.0.1:{free_port()}",)}], indirect=True)
RESETS, MEMORY_MB_MAX = 5000, 60
GOOD = [(":method", "GET"), (":scheme", "https"), (":authority", "blog.test"), (":path", "/x")]


class Http2:
    """A connection on which anything may be sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()

    def send(self, *frames: Frame) -> None:
        self.writer.write(b"".join(frame.serialize() for frame in frames))

    def headers(self, stream: int, fields: list[tuple[str, str]]) -> HeadersFrame:
        return self.block(stream, self._encoder.encode(fields))

    def block(self, stream: int, data: bytes) -> HeadersFrame:
        return HeadersFrame(stream, data, flags=["END_HEADERS", "END_STREAM"])

    async def frame(self) -> Frame:
        head = await self.reader.readexactly(9)
        frame, length = Frame.parse_frame_header(memoryview(head))
        frame.parse_body(memoryview(await self.reader.readexactly(length)))
        return frame

    async def answer(self, stream: int) -> str:
        """A status, `reset`, or `closed` where the whole connection ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await self.frame()
                if isinstance(frame, GoAwayFrame) and frame.error_code:
                    return "closed"
                if frame.stream_id == stream and isinstance(frame, RstStreamFrame):
                    return "reset"
                if isinstance(frame, HeadersFrame):
                    fields = self._decoder.decode(frame.data)
                    if frame.stream_id == stream:
                        return str(dict(fields)[":status"])
        return "closed"


@contextlib.asynccontextmanager
async def http2(front) -> AsyncIterator[Http2]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    port = int(front.pool.secure[0].rpartition(":")[2])
    connection = Http2(*await asyncio.open_connection("127.0.0.1", port, ssl=context))
    connection.writer.write(PREFACE)
    connection.send(SettingsFrame(0))
    try:
        async with asyncio.timeout(20):
            yield connection
    finally:
        connection.writer.close()


@pytest.fixture
async def recorder(front) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    lane = [Open(SlotId("lane0", 0), address, 50), Allow("lane0", "9000:99", True), Route("blog.test", "lane0", True)]
    await front.runtime.do(lane)
    yield recorder
    server.close()


def memory_mb(pid: int) -> float:
    words = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()
    return int(words[0]) / 1024


FIELDS = {
    "as it should be": (GOOD, "200"),
    "CR and LF in a value": ([*GOOD, ("x", "a\r\nGET /smuggled HTTP/1.1")], "closed"),
    "NUL in a value": ([*GOOD, ("x", "a\0b")], "reset"),
    "a blank in a name": ([*GOOD, ("x y", "a")], "reset"),
    "a colon in a name": ([*GOOD, ("x:y", "a")], "reset"),
    "capitals in a name": ([*GOOD, ("Xy", "a")], "reset"),
    "an encoding": ([*GOOD, ("transfer-encoding", "chunked")], "reset"),
    "Connection": ([*GOOD, ("connection", "x-fastcontainer-route")], "reset"),
    "two lengths that differ": ([*GOOD, ("content-length", "0"), ("content-length", "5")], "reset"),
    "a length without a body": ([*GOOD, ("content-length", "5")], "200"),  # and the site is told of none
    "two paths": ([*GOOD, (":path", "/smuggled")], "reset"),
    "a pseudo field at the end": ([*GOOD[:3], ("x", "a"), GOOD[3]], "reset"),
    "CR and LF in the path": ([*GOOD[:3], (":path", "/ HTTP/1.1\r\nX: y")], "closed"),
    "a blank in the path": ([*GOOD[:3], (":path", "/x HTTP/1.1")], "reset"),
    "an empty path": ([*GOOD[:3], (":path", "")], "reset"),
    "a blank in the method": ([(":method", "GET /smuggled HTTP/1.1"), *GOOD[1:]], "400"),
    "another Host beside the authority": ([*GOOD, ("host", "other.test")], "200"),
    "no authority": (
        [GOOD[0], GOOD[1], GOOD[3]],
        "200",
    ),  # of the server that stands for the UserProxies, which say 400
    "our routing header": ([*GOOD, ("x-fastcontainer-route", "forged"), ("x_fastcontainer_route", "forged")], "200"),
    "a client's address": ([*GOOD, ("x-forwarded-for", "forged"), ("forwarded", "for=forged")], "200"),
}


@SECURE
async def test_fields(front, recorder) -> None:
    got = {}
    for name, (fields, _) in FIELDS.items():
        async with http2(front) as connection:
            connection.send(connection.headers(1, fields))
            got[name] = await connection.answer(1)
    assert got == {name: expected for name, (_, expected) in FIELDS.items()}
    check_what_the_site_got(recorder)
    assert not any(b"other.test" in raw.partition(b"\r\n\r\n")[0].lower() for raw in recorder.connections)


@SECURE
async def test_rapid_reset(front, recorder) -> None:
    """CVE-2023-44487: requests that are taken back at once. The site sees few of them, and others are served meanwhile."""
    pid = (await front.runtime.info()).pid
    async with http2(front) as connection:
        for number in range(RESETS):
            stream = 2 * number + 1
            connection.send(connection.headers(stream, GOOD), RstStreamFrame(stream, error_code=8))
        began = time.monotonic()
        assert (await front.ask("blog.test")).status == 200
        other_s = time.monotonic() - began
        await connection.writer.drain()
    assert other_s < 5
    assert memory_mb(pid) < MEMORY_MB_MAX
    print(f"{RESETS} requests taken back: the site saw {len(recorder.connections) - 1}, another waited {other_s:.2f} s")
    assert len(recorder.connections) - 1 < RESETS


@SECURE
async def test_a_bomb_of_headers(front, recorder) -> None:
    """One header of 4 kB in the table, and then 12,000 times a byte that stands for it: 48 MB."""
    pid = (await front.runtime.info()).pid
    encoder = hpack.Encoder()
    block = encoder.encode([*GOOD, ("bomb", "b" * 4000)]) + b"\xbe" * 12_000
    async with http2(front) as connection:
        connection.send(connection.block(1, block))
        assert await connection.answer(1) in ("reset", "closed")
    assert memory_mb(pid) < MEMORY_MB_MAX
    assert recorder.connections == []


@SECURE
async def test_headers_without_end(front, recorder) -> None:
    """CVE-2024-27316: CONTINUATION after CONTINUATION."""
    pid = (await front.runtime.info()).pid
    async with http2(front) as connection:
        first = connection.headers(1, [*GOOD, ("x", "y" * 1000)])
        first.flags.discard("END_HEADERS")
        connection.send(first)
        with contextlib.suppress(ConnectionError):
            for _ in range(2000):
                connection.send(ContinuationFrame(1, b"\x00\x01x\x7f\xa1\x1f" + b"y" * 4000))
                await connection.writer.drain()
        assert await connection.answer(1) == "closed"
    assert memory_mb(pid) < MEMORY_MB_MAX
    assert (await front.ask("blog.test")).status == 200


@SECURE
async def test_more_streams_than_are_allowed(front, recorder) -> None:
    """A hundred at once for a client; what is beyond is refused, and the rest is answered."""
    async with http2(front) as connection:
        connection.send(*(connection.headers(2 * number + 1, GOOD) for number in range(300)))
        answered: dict[int, str] = {}
        with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError):
            while len(answered) < 300:
                frame = await asyncio.wait_for(connection.frame(), 3)
                if isinstance(frame, HeadersFrame | RstStreamFrame):
                    answered.setdefault(frame.stream_id, type(frame).__name__)
    kinds = [*answered.values()]
    print(f"300 at once: {kinds.count('HeadersFrame')} answered, {kinds.count('RstStreamFrame')} refused")
    assert kinds.count("HeadersFrame") >= 100
