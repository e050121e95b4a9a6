"""A UserProxy that takes no short cut reaches the very same containers through the Web Dispatcher, as from another host."""

import asyncio
import hashlib
import itertools
import json
from pathlib import Path

import pytest

from tests.acceptance.test_life import PING, UPGRADE
from tests.fakes.clients import Connection
from tests.plugins.installation import wait_for

pytestmark = pytest.mark.system

SETTINGS = {"short_cut": False}


async def test_a_wake(installation):
    await installation.create("far", idle_s=2.0)
    first = await installation.ask("far", "/head", x_forwarded_for="6.6.6.6", x_fastcontainer_route="forged")
    assert first.status == 200
    assert b"\r\nHost: far.localhost\r\n" in first.body
    assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in first.body
    assert b"fastcontainer" not in first.body.lower()
    assert b"100.99." not in first.head
    answers = await asyncio.gather(*(installation.ask("far") for _ in range(50)))
    assert {answer.status for answer in answers} == {200} and len({answer.body for answer in answers}) == 1
    log = Path(installation.settings.log_dir) / "access/webdispatcher.log"

    def logged():
        return [line for line in log.read_text().splitlines() if json.loads(line)["app"] == "far"]

    await wait_for(lambda: len(logged()) >= 51, 3.0, "the Web Dispatcher has passed them")
    await installation.asleep("far", within_s=6.0)


async def test_200_at_once_to_a_narrow_site(installation):
    await installation.create("narrow", "python3", "-SI", "/srv/site.py", "--backlog", "5", "--one-at-a-time")
    answers = await asyncio.gather(*(installation.ask("narrow") for _ in range(200)))
    assert [answer.status for answer in answers] == [200] * 200
    assert len(await installation.events("narrow", "started")) == 1


async def test_a_websocket_wakes_and_keeps_awake(installation):
    await installation.create("socket", idle_s=1.0)
    connection = await Connection.open(installation.port)
    connection.send(UPGRADE % b"socket")
    assert (await connection.head()).status == 101
    await asyncio.sleep(3.0)  # its silence is what is tested
    connection.send(PING)
    assert await connection.reader.readexactly(6) == b"\x81\x04ping"
    connection.close()
    await installation.asleep("socket", within_s=4.0)


async def test_events_come_as_they_are_sent(installation):
    await installation.create("news")
    connection = await Connection.open(installation.port)
    connection.send(b"GET /drip?n=3&s=0.7&sse=1 HTTP/1.1\r\nHost: news.localhost\r\n\r\n")
    head = await connection.head()
    assert head.headers["content-type"] == "text/event-stream"
    times = []
    for number in range(3):
        assert await connection.chunk() == b"data: %d\n\n" % number
        times.append(asyncio.get_running_loop().time())
    connection.close()
    assert all(0.4 < later - earlier < 1.2 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_upload_wakes_and_streams(installation, chunked):
    name = f"upload-{'chunked' if chunked else 'sized'}"
    await installation.create(name)
    data = bytes(range(256)) * 4096 * 8  # 8 MiB
    connection = await Connection.open(installation.port)
    how = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(data)
    connection.send(b"POST /upload HTTP/1.1\r\nHost: %s.localhost\r\n%s\r\n\r\n" % (name.encode(), how))
    for first in range(0, len(data), 1 << 18):
        part = data[first : first + (1 << 18)]
        connection.send(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
        await connection.writer.drain()
    if chunked:
        connection.send(b"0\r\n\r\n")
    response = await connection.response()
    connection.close()
    assert response.status == 200, response.raw
    assert response.body.decode() == f"{len(data)} {hashlib.sha256(data).hexdigest()}"


async def test_errors_are_the_user_proxys(installation):
    await installation.create("wrong", "/nonexistent")
    for accept in ("text/html", "application/json"):
        response = await installation.ask("wrong", accept=accept)
        assert response.status == 503 and "retry-after" in response.headers
        assert b"100.99." not in response.raw and b"127.0.0.1" not in response.raw
