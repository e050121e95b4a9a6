"""What passes through the UserProxy, and how: headers, bodies, streams, upgrades."""

import asyncio
import base64
import os
import socket

import msgspec
import pytest

from dispatcher.cmdb import keys
from dispatcher.domain import ComputeRow, ContainerRow, Policy, Status
from tests.fakes import sites
from tests.fakes.sites import quiet, read_head

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: blog.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: %s\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n"
)


async def test_host_arrives_byte_for_byte_and_clients_own_forwarding_headers_do_not(world):
    await world.site("blog", sites.echo_head)
    connection = await world.connect()
    connection.send(
        b"GET /a%20b?x=%00 HTTP/1.1\r\nhOst: BLOG.test.:8080\r\nX-Forwarded-For: 6.6.6.6\r\nx_forwarded_for: 6.6.6.6\r\n"
        b"Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-FastContainer-Route: x\r\nX_FastContainer_Route: x\r\n"
        b"Connection: X-Secret, keep-alive\r\nX-Secret: 1\r\nTE: trailers\r\nProxy: evil\r\nAccept: */*\r\n\r\n"
    )
    seen = (await connection.response()).body.split(b"\r\n")
    assert seen[0] == b"GET /a%20b?x=%00 HTTP/1.1"
    assert sorted(line for line in seen[1:] if line) == sorted(
        [
            b"hOst: BLOG.test.:8080",
            b"Accept: */*",
            b"X-Forwarded-For: 127.0.0.1",
            b"X-Forwarded-Proto: http",
            b"X-Forwarded-Host: BLOG.test.:8080",
            b'Forwarded: for=127.0.0.1;host="BLOG.test.:8080";proto=http',
            b"Connection: close",
        ]
    )
    connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Type: a/b\r\n\r\nhello", id="until EOF, HTTP/1.0"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nKeep-Alive: timeout=5\r\n\r\nhello", id="until EOF"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", id="length"),
        pytest.param(b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n", id="chunked"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
            id="trailer",
        ),
        pytest.param(
            b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            id="interim",
        ),
    ],
)
async def test_every_framing_leaves_the_clients_connection_usable(world, sent):
    await world.site("blog", sites.answering(sent))
    connection = await world.connect()
    for _ in range(3):
        response = await connection.ask("blog.test")
        assert (response.status, response.body) == (200, b"hello")
        assert response.head.startswith(b"HTTP/1.1 200")
        assert "connection" not in response.headers
        assert "keep-alive" not in response.headers
    connection.close()


async def test_head_204_304_and_http10(world):
    await world.site("blog", sites.answering(b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"))
    await world.site("shop", sites.answering(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"))
    await world.site(
        "old", sites.answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    )
    connection = await world.connect()
    assert (await connection.ask("blog.test")).status == 304
    head = await connection.ask("shop.test", method="HEAD")
    assert (head.status, head.headers["content-length"]) == (200, "500")
    assert (await connection.ask("nobody.test", method="HEAD")).status == 404
    connection.send(b"GET / HTTP/1.0\r\nHost: old.test\r\n\r\n")
    assert (await connection.closed()).endswith(b"\r\n\r\nhello")
    connection.close()


async def test_bodies_pass_both_ways_in_pieces(world):
    await world.site("blog", sites.echo_body)
    body = os.urandom(3 << 20)
    connection = await world.connect()
    connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert (await connection.response()).body == body
    connection.close()


async def test_a_chunked_upload_reaches_the_container_before_it_is_complete(world):
    got = asyncio.Event()

    @quiet
    async def upload(reader, writer):
        await read_head(reader)
        assert await reader.readuntil(b"first\r\n")
        got.set()
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(sites.text(b"done"))

    await world.site("blog", upload)
    connection = await world.connect()
    connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    async with asyncio.timeout(5):
        await got.wait()
    connection.send(b"6\r\nsecond\r\n0\r\nTrailer: dropped\r\n\r\n")
    assert (await connection.response()).body == b"done"
    assert (await connection.ask("nobody.test")).status == 404
    connection.close()


async def test_an_event_arrives_before_the_next_is_sent(world):
    turn = asyncio.Semaphore(0)

    @quiet
    async def events(reader, writer):
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for i in range(3):
            writer.write(b"data: %d\n\n" % i)
            await turn.acquire()

    await world.site("blog", events)
    connection = await world.connect()
    connection.send(b"GET / HTTP/1.1\r\nHost: blog.test\r\n\r\n")
    await connection.head()
    for i in range(3):
        async with asyncio.timeout(5):
            assert await connection.chunk() == b"data: %d\n\n" % i
        assert world.proxy.in_flight.counts == {"blog/1.1": 1}
        turn.release()
    assert await connection.chunk() == b""
    await world.agent.until(lambda: world.agent.counts == {"blog/1.1": 0})
    connection.close()


async def test_downloads_do_not_keep_the_next_request_waiting(world):
    @quiet
    async def endless(reader, writer):
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
        await reader.read()

    await world.site("blog", endless, concurrency=1)
    connections = [await world.connect() for _ in range(3)]
    for connection in connections:
        connection.send(b"GET / HTTP/1.1\r\nHost: blog.test\r\n\r\n")
        assert (await connection.head()).status == 200
    for connection in connections:
        connection.close()
    await world.agent.until(lambda: world.agent.counts == {"blog/1.1": 0})


async def test_websocket(world):
    @quiet
    async def chat(reader, writer):
        head = await read_head(reader)
        assert b"\r\nConnection: Upgrade\r\n" in head
        assert b"\r\nUpgrade: websocket\r\n" in head
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        while frame := await reader.read(2 + 4 + 5):
            writer.write(b"\x81\x05" + bytes(b ^ m for b, m in zip(frame[6:], frame[2:6] * 2, strict=False)))

    await world.site("blog", chat)
    connection = await world.connect()
    connection.send(UPGRADE % (b"websocket", base64.b64encode(b"0123456789abcdef")))
    head = await connection.head()
    assert head.status == 101
    assert head.headers["upgrade"] == "websocket"
    for _ in range(5):
        connection.send(b"\x81\x85\x00\x00\x00\x00hello")
        async with asyncio.timeout(5):
            assert await connection.reader.readexactly(7) == b"\x81\x05hello"
    await world.agent.until(lambda: world.agent.counts == {"blog/1.1": 1})
    (layer,) = world.proxy.clients.layers.values()
    (stream,) = layer.streams.values()
    assert stream.child_layer.flow is None  # where mitmproxy would keep what passed
    connection.close()
    await world.agent.until(lambda: world.agent.counts == {"blog/1.1": 0})


async def test_a_container_that_ends_an_upgraded_connection(world):
    @quiet
    async def short(reader, writer):
        await read_head(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x88\x00")

    await world.site("blog", short)
    connection = await world.connect()
    connection.send(UPGRADE % (b"websocket", b"x"))
    assert (await connection.head()).status == 101
    assert await connection.closed() == b"\x88\x00"
    connection.close()
    await world.agent.until(lambda: world.agent.counts == {"blog/1.1": 0})
    assert world.log()[-1]["outcome"] == "passed"


async def test_another_protocol_by_upgrade_but_not_h2c(world):
    @quiet
    async def upgrade(reader, writer):
        head = await read_head(reader)
        if b"Upgrade: irc" not in head:
            writer.write(sites.text(head))
            return
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: irc\r\n\r\n")
        while data := await reader.read(100):
            writer.write(data.upper())

    await world.site("blog", upgrade)
    connection = await world.connect()
    connection.send(UPGRADE % (b"irc", b"x"))
    assert (await connection.head()).status == 101
    connection.send(b"hello")
    assert await connection.reader.readexactly(5) == b"HELLO"
    connection.close()
    connection = await world.connect()
    connection.send(UPGRADE % (b"h2c", b"x"))
    assert b"h2c" not in (await connection.response()).body
    connection.close()


async def test_expect_continue_comes_when_there_is_a_container_and_not_with_a_refusal(world):
    site = await world.site("blog", sites.echo_body)
    site.gate.clear()
    ask = b"POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    connection = await world.connect()
    connection.send(ask % b"blog.test")
    await world.agent.until(lambda: bool(world.agent.ensures))
    site.gate.set()
    assert (await connection.head()).status == 100
    connection.send(b"hello")
    assert (await connection.response()).body == b"hello"
    connection.send(ask % b"nobody.test")
    assert (await connection.response()).status == 404
    connection.close()


async def test_a_body_that_nobody_reads_is_not_kept(world):
    connection = await world.connect()
    connection.send(b"POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000)
    assert (await connection.response()).status == 404
    assert (await connection.ask("nobody.test")).status == 404
    connection.send(b"POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 1000000)
    assert (await connection.response()).status == 404
    assert await connection.closed() == b""
    connection.close()


async def test_a_held_upload_stays_in_the_clients_socket(world):
    site = await world.site("blog", sites.echo_body)
    site.gate.clear()
    body = b"x" * (20 << 20)
    connection = await world.connect()
    connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await world.agent.until(lambda: bool(world.agent.ensures))
    await asyncio.sleep(0.3)  # time in which it could be read
    (layer,) = world.proxy.clients.layers.values()
    (stream,) = layer.streams.values()
    assert stream._queued_bytes < 1 << 20
    site.gate.set()
    assert (await connection.response()).body == body
    connection.close()


async def test_a_slow_clients_download_stays_with_the_container(world):
    body, written = os.urandom(1 << 20) * 20, 0
    go_on = asyncio.Event()

    @quiet
    async def download(reader, writer):
        nonlocal written
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 1 << 18):
            writer.write(body[start : start + (1 << 18)])
            await writer.drain()
            written += 1 << 18
            go_on.set()

    await world.site("blog", download)
    with socket.create_connection(("127.0.0.1", world.port)) as slow:
        slow.setblocking(False)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        slow.sendall(b"GET / HTTP/1.1\r\nHost: blog.test\r\nConnection: close\r\n\r\n")
        while True:  # until the container has to wait
            go_on.clear()
            try:
                await asyncio.wait_for(go_on.wait(), 0.3)
            except TimeoutError:
                break
        (handler,) = world.proxy.clients._ours.values()
        assert handler._writer.transport.get_write_buffer_size() < 1 << 20
        assert written < len(body)
        got = bytearray()
        while chunk := await asyncio.get_running_loop().sock_recv(slow, 1 << 20):
            got += chunk
    assert got.endswith(b"\r\n\r\n" + body)


async def test_a_slow_containers_upload_stays_with_the_client(world):
    go_on = asyncio.Event()

    @quiet
    async def slow(reader, writer):
        await read_head(reader)
        reader._transport.pause_reading()
        await go_on.wait()
        reader._transport.resume_reading()
        writer.write(sites.text(b"%d" % len(await reader.readexactly(20 << 20))))

    await world.site("blog", slow)
    connection = await world.connect()
    connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\nContent-Length: %d\r\n\r\n" % (20 << 20))
    connection.send(b"x" * (20 << 20))
    async with asyncio.timeout(5):
        while not world.proxy.clients._ours:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    (handler,) = world.proxy.clients._ours.values()
    async with asyncio.timeout(5):
        while not any(backend.congested for backend in handler._backends.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)  # time in which more could be read
    (backend,) = handler._backends.values()
    assert len(backend._unsent) < 1 << 20
    go_on.set()
    assert (await connection.response()).body == b"%d" % (20 << 20)
    connection.close()


async def test_a_web_dispatcher_that_is_ourselves_is_not_asked(world):
    """Each of us would pass the request on to the next, which is again us."""
    await world.site("blog", sites.hello(), policy=Policy(start_timeout_s=0.2))
    there = ComputeRow(dispatcher=f"127.0.0.1:{world.port}", cores=1, memory_bytes=1)
    await world.put(
        {
            keys.compute_key("there"): msgspec.json.encode(there),
            keys.container_key("blog", "1"): msgspec.json.encode(ContainerRow(compute="there", status=Status.RUNNING)),
        }
    )
    (world.path / "route.key").write_bytes(b"0123456789abcdef")
    assert (await world.ask("blog.test")).status in (502, 503)
    assert len(world.log()) == 1


async def test_the_container_closes_first_unless_it_never_does(world):
    early = []
    end = asyncio.Event()

    @quiet
    async def polite(reader, writer):
        await read_head(reader)
        writer.write(sites.text(b"hello"))
        try:
            async with asyncio.timeout(0.02):
                early.append(await reader.read())
        except TimeoutError:
            pass

    @quiet
    async def stubborn(reader, writer):
        await read_head(reader)
        writer.write(sites.text(b"hello"))
        await reader.read()
        end.set()

    await world.site("blog", polite)
    await world.site("shop", stubborn)
    connection = await world.connect()
    for _ in range(5):
        assert (await connection.ask("blog.test")).status == 200
    assert (await connection.ask("shop.test")).status == 200
    async with asyncio.timeout(5):
        await end.wait()
    assert early == []
    assert (await connection.ask("blog.test")).status == 200
    connection.close()


async def test_server_timing_only_when_asked_for(world):
    await world.site("blog", sites.hello(), policy=Policy(server_timing=True))
    await world.site("shop", sites.hello())
    timing = (await world.ask("blog.test")).headers["server-timing"]
    assert timing.startswith("queue;dur=")
    assert ", listen;dur=" in timing
    assert "server-timing" not in (await world.ask("shop.test")).headers


async def test_a_container_that_never_comes_to_its_final_response_is_given_up(world):
    await world.site("blog", sites.answering(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000))
    connection = await world.connect()
    assert (await connection.ask("blog.test")).status == 502
    connection.close()
