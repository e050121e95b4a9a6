"""What is hostile, malformed or slow gets a clear answer of ours, and nothing of the inside."""

import asyncio
import json

import pytest

from addons import connections
from dispatcher.cmdb import keys
from dispatcher.domain import Front
from tests.fakes import sites

GET = b"GET / HTTP/1.1\r\nHost: blog.test\r\n"


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        pytest.param(400, GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="CL+TE"),
        pytest.param(400, GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", id="two CL"),
        pytest.param(400, GET + b"Content-Length: 5, 5\r\n\r\nhello", id="CL list"),
        pytest.param(400, GET + b"Content-Length: +5\r\n\r\nhello", id="CL sign"),
        pytest.param(400, GET + b"Content-Length: 0x5\r\n\r\nhello", id="CL hex"),
        pytest.param(400, GET + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="two TE"),
        pytest.param(400, GET + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", id="unknown TE"),
        pytest.param(400, GET + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="TE not last"),
        pytest.param(400, GET + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", id="space before colon"),
        pytest.param(400, GET + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n", id="continued line"),
        pytest.param(400, GET + b"X: a\rTransfer-Encoding: chunked\r\n\r\n", id="bare CR"),
        pytest.param(400, GET + b"X: a\0b\r\n\r\n", id="NUL"),
        pytest.param(400, GET + b"X\r\n\r\n", id="no colon"),
        pytest.param(400, GET + b"Host: other.test\r\n\r\n", id="two hosts"),
        pytest.param(400, b"GET / HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(400, b"GET http://other.test/ HTTP/1.1\r\nHost: blog.test\r\n\r\n", id="target and Host differ"),
        pytest.param(400, b"GET  / HTTP/1.1\r\nHost: blog.test\r\n\r\n", id="two spaces"),
        pytest.param(400, b"GET /\tx HTTP/1.1\r\nHost: blog.test\r\n\r\n", id="tab in the target"),
        pytest.param(400, b"GET /\r\n\r\n", id="HTTP/0.9"),
        pytest.param(400, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", id="TLS"),
        pytest.param(505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(501, b"CONNECT blog.test:80 HTTP/1.1\r\nHost: blog.test:80\r\n\r\n", id="CONNECT"),
        pytest.param(431, GET + b"X: " + b"a" * 40_000 + b"\r\n\r\n", id="a long header"),
        pytest.param(431, GET + b"X: " + b"a" * 5_000_000, id="a header without end"),
        pytest.param(431, GET + b"A: b\r\n" * 500 + b"\r\n", id="many headers"),
        pytest.param(431, b"GET / HTTP/1.1\r\nHost: " + b"a" * 1_000_000 + b"\r\n\r\n", id="a million characters of host"),
        pytest.param(404, b"GET / HTTP/1.1\r\nHost: " + b"a" * 20_000 + b"\r\n\r\n", id="a long host"),
        pytest.param(404, b"GET / HTTP/1.1\r\nHost: a/../b\r\n\r\n", id="a path as host"),
        pytest.param(404, b"GET / HTTP/1.1\r\nHost: <script>\r\nAccept: text/html\r\n\r\n", id="markup as host"),
        pytest.param(400, GET + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", id="a broken chunk"),
        pytest.param(400, GET + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 100_000, id="a chunk header without end"),
    ],
)  # fmt: skip
async def test_refused(world, status, sent):
    seen = []

    @sites.quiet
    async def never_answers(reader, writer):
        seen.append(await sites.read_head(reader))
        await reader.read()

    await world.site("blog", never_answers)
    connection = await world.connect()
    connection.send(sent)
    response = await connection.response(within_s=3)
    assert response.status == status
    check_ours(response)
    if status != 404:
        assert response.headers["connection"] == "close"
        connection.writer.write_eof()
        assert await connection.closed() == b""
        if b"chunk" not in sent:
            assert seen == []
    connection.close()


def check_ours(response):
    text = response.raw.lower()
    assert b"mitmproxy" not in text
    assert b"127.0.0.1" not in text
    assert b"<script" not in text
    assert b"cache-control: no-store" in text
    assert response.headers["x-request-id"].encode() in response.body


async def test_a_bare_line_feed_does_not_smuggle(world):
    await world.site("blog", sites.echo_head)
    connection = await world.connect()
    connection.send(b"GET / HTTP/1.1\nHost: blog.test\nX: y\n\n")
    body = (await connection.response()).body
    assert body.startswith(b"GET / HTTP/1.1\r\nHost: blog.test\r\nX: y\r\n")
    connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 -1 OK\r\n\r\n",
    ],
)
async def test_a_container_that_answers_nonsense_is_a_502_of_ours(world, sent):
    site = await world.site("blog", sites.answering(sent))
    connection = await world.connect()
    for _ in range(2):
        response = await connection.ask("blog.test", Accept="text/html")
        assert response.status == 502
        check_ours(response)
        assert site.servers["1"].sockets[0].getsockname()[1] not in response.raw.split()
    connection.close()


async def test_slow_headers_get_408_and_idle_connections_are_closed(world, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S_MAX", 0.2)
    connection = await world.connect()
    connection.send(b"GET / HTTP/1.1\r\nHos")
    response = await connection.response(within_s=5)
    assert response.status == 408
    check_ours(response)
    connection.close()
    silent, idle = await world.connect(), await world.connect()
    assert (await idle.ask("nobody.test")).status == 404
    monkeypatch.setattr(connections, "IDLE_S_MAX", 0.2)
    assert await idle.closed() == b""
    assert await silent.closed() == b""
    idle.close()
    silent.close()


async def test_a_slow_client_that_moves_is_not_cut(world):
    await world.site("blog", sites.echo_head)
    connection = await world.connect()
    for i in range(len(GET)):
        connection.send(GET[i : i + 1])
        await asyncio.sleep(0)
    connection.send(b"\r\n")
    assert (await connection.response()).status == 200
    connection.close()


async def test_pages_by_accept(world):
    html = await world.ask("nobody.test", Accept="text/html,*/*;q=0.8")
    assert html.headers["content-type"].startswith("text/html")
    assert b"<h1>No such site</h1>" in html.body
    told = await world.ask("nobody.test", Accept="application/json")
    assert told.headers["content-type"] == "application/problem+json"
    problem = json.loads(told.body)
    assert (problem["status"], problem["code"]) == (404, "unknown_host")
    assert problem["request_id"] == told.headers["x-request-id"]


async def test_a_failing_hook_answers_500_and_forwards_nothing(world, monkeypatch, caplog):
    site = await world.site("blog", sites.hello())
    monkeypatch.setattr(world.proxy.cache, "app_for", lambda host: 1 / 0)
    connection = await world.connect()
    response = await connection.ask("blog.test", Accept="text/html")
    assert response.status == 500
    check_ours(response)
    assert b"ZeroDivision" not in response.body
    assert "ZeroDivisionError" in caplog.text
    assert site.starts == 0
    monkeypatch.undo()
    assert (await connection.ask("blog.test")).status == 200
    connection.close()


async def test_without_our_hook_nothing_is_forwarded(world, monkeypatch):
    async def nothing(flow):
        pass

    site = await world.site("blog", sites.hello())
    monkeypatch.setattr(world.proxy, "requestheaders", nothing)
    connection = await world.connect()
    response = await connection.ask("blog.test")
    assert response.status == 500
    assert site.starts == 0
    connection.close()


async def test_a_fault_in_the_layers_ends_the_connection(world, monkeypatch, caplog):
    await world.site("blog", sites.hello())
    monkeypatch.setattr(world.proxy.register, "answered", lambda flow, response: 1 / 0)
    connection = await world.connect()
    connection.send(GET + b"\r\n")
    assert await connection.closed() == b""
    assert "ZeroDivisionError" in caplog.text
    connection.close()
    await world.agent.until(lambda: world.agent.counts == {"blog/1.1": 0})


async def test_an_apps_own_page_while_it_is_worked_on(world):
    site = await world.site("blog", sites.hello(), front=Front(maintenance_page="<p>soon"))
    await world.put({keys.word_key("blog", "switch"): b"maintenance"})
    page = await world.ask("blog.test", Accept="text/html")
    assert (page.status, page.body, page.headers["retry-after"]) == (503, b"<p>soon", "300")
    told = await world.ask("blog.test", Accept="application/json")
    assert (told.status, json.loads(told.body)["code"]) == (503, "maintenance")
    assert site.starts == 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"Content-Length: 10\r\n\r\n0123456789", 200),
        (b"Content-Length: 11\r\n\r\n0123456789a", 413),
        (b"Content-Length: 9000000000000000000\r\n\r\n", 413),
        (b"Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n", 200),
        (b"Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n1\r\na\r\n0\r\n\r\n", 413),
        (b"Transfer-Encoding: chunked\r\n\r\n" + b"a\r\n0123456789\r\n" * 9, 413),
    ],
)
async def test_a_body_larger_than_its_app_takes(world, sent, status):
    ends = []

    @sites.quiet
    async def reads_all(reader, writer):
        ends.append(await sites.read_head(reader))
        ends.append(await reader.readuntil(b"9"))
        if b"chunked" in ends[0].lower():
            ends.append(await reader.readuntil(b"\r\n0\r\n\r\n"))
        writer.write(sites.text(b"read"))

    site = await world.site("blog", reads_all, front=Front(body_bytes_max=10))
    connection = await world.connect()
    connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\n" + sent)
    response = await connection.response()
    assert response.status == status
    if status == 413:
        check_ours(response)
        assert json.loads(response.body)["code"] == "body_too_large"
        assert site.starts == (b"chunked" in sent)
    elif not sent.endswith(b"0\r\n\r\n"):
        assert (await connection.ask("blog.test", "/", "POST", Content_Length="99")).status == 413
    connection.close()
    await world.agent.until(lambda: not any(world.agent.counts.values()))


async def test_a_body_that_grows_too_large_under_its_response_ends_both(world):
    @sites.quiet
    async def answers_at_once(reader, writer):
        await sites.read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0")
        await reader.read(1 << 20)
        await reader.read(1 << 20)

    await world.site("blog", answers_at_once, front=Front(body_bytes_max=10))
    connection = await world.connect()
    connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    assert (await connection.head()).status == 200
    connection.send(b"14\r\n01234567890123456789\r\n")
    assert await connection.closed() in (b"", b"0")
    connection.close()
    await world.agent.until(lambda: not any(world.agent.counts.values()))
