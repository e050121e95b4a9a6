"""Bad sites and bad clients: each gets a clear answer, and the site next door notices nothing."""

import asyncio
import re
import time

import pytest

from tests.acceptance.load import Load, percentile
from tests.fakes.clients import Connection
from tests.plugins.installation import wait_for

pytestmark = pytest.mark.system

SITE = "python3 -SI /srv/site.py"


@pytest.fixture
async def calm(installation):
    """The site next door, under load for as long as the test lasts."""
    async with installation.store() as store:
        known = await store.get("/fastcontainer/apps/calm/spec")
    if known is None:
        await installation.create("calm")
    await installation.wake("calm")
    async with Load(installation.port, "calm.localhost", rate=20) as load:
        yield load
    print(load.report())
    assert not load.failed, load.report()
    assert percentile(sorted(sample.s for sample in load.samples), 99) < 1.5, load.report()
    assert len(set(load.bodies)) == 1


async def test_unknown_host(installation, calm):
    for accept, kind in (("text/html", "text/html; charset=utf-8"), ("*/*", "application/problem+json")):
        response = await installation.ask("nobody", accept=accept)
        assert response.status == 404
        assert response.headers["content-type"] == kind
        assert response.headers["x-request-id"].encode() in response.body


# command, seconds within which it is answered, what its owner reads
BAD_STARTS = {
    "command-missing": (("/nonexistent",), 3.0, "/nonexistent"),
    "not-in-path": (("no-such-program",), 3.0, "no-such-program"),
    "exits-at-once": (("sh", "-c", "echo out of cheese >&2; exit 3"), 3.0, "out of cheese"),
    "never-listens": (("sleep", "60"), 4.0, "did not listen on port 80"),
    "wrong-port": (("env", "PORT=8000", *SITE.split()), 4.0, "port 8000"),
    "loopback": (("php", "-S", "127.0.0.1:80"), 4.0, "127.0.0.1"),
}


@pytest.mark.parametrize("kind", BAD_STARTS)
async def test_what_does_not_start(installation, calm, kind):
    command, within_s, told = BAD_STARTS[kind]
    await installation.create(kind, *command, start_timeout_s=1.5)
    began = time.monotonic()
    first = await installation.ask(kind, accept="text/html")
    assert first.status == 503 and int(first.headers["retry-after"]) >= 1
    assert time.monotonic() - began < within_s
    second = await installation.ask(kind, accept="*/*")
    assert second.status == 503

    async def failure():
        return await installation.events(kind, "failed")

    events = await wait_for(failure, 3.0)
    assert told in events[0].message
    shown = installation.cli_json("app", "show", kind)
    assert told in shown["last_failure"]
    await installation.remove(kind)


async def test_a_crash_loop_is_braked(installation, calm):
    await installation.create("loop", "sh", "-c", "exit 1")
    until = time.monotonic() + 4.0
    answers = []
    while time.monotonic() < until:
        answers += await asyncio.gather(*(installation.ask("loop") for _ in range(10)))
    assert {answer.status for answer in answers} == {503}
    assert all("retry-after" in answer.headers for answer in answers)
    starts = await installation.events("loop", "started")
    print(f"{len(answers)} requests, {len(starts)} starts")
    assert len(starts) <= 4
    await installation.remove("loop")


async def test_listens_and_then_dies(installation, calm):
    dies = f"{SITE} & sleep 0.5; kill -9 $!"
    await installation.create("dies", "sh", "-c", dies, init=False)
    statuses = [(await installation.ask("dies", "/?s=0.1")).status for _ in range(20)]
    assert set(statuses) <= {200, 502, 503} and 200 in statuses
    # Killed by its own answer: a request that may not be repeated gets to know, one that may is tried once more.
    await installation.create("fatal")
    assert (await installation.ask("fatal", "/die", "POST", content_length="0")).status == 502
    assert (await installation.ask("fatal", "/die")).status in (502, 503)
    assert len(await installation.events("fatal", "started")) <= 3
    await installation.remove("dies")
    await installation.remove("fatal")


async def test_eats_its_memory(installation, calm):
    await installation.create("hungry", words={"memory": "32M", "cpu": "50%"})
    response = await installation.ask("hungry", "/eat", "POST", content_length="0")
    assert response.status == 502

    async def failed():
        return await installation.events("hungry", "failed")

    (event,) = await wait_for(failed, 3.0)
    assert "memory" in event.message and "32M" in event.message
    assert (await installation.ask("hungry")).status == 200
    await installation.remove("hungry")


async def test_forks_without_end(installation, calm):
    await installation.create("rabbit", words={"cpu": "50%"}, pids=20)
    response = await installation.ask("rabbit", "/fork?s=1")
    assert response.status == 200 and 5 <= int(response.body) < 20
    (live,) = await installation.running("rabbit")
    slot = installation.slot_of(live)
    assert len(installation.slots()[slot]) > 10
    installation.cli("stop", "rabbit")
    await wait_for(lambda: len(installation.slots().get(slot, ())) <= 1, 3.0)
    await installation.remove("rabbit")


HEAD = b"GET / HTTP/1.1\r\nHost: calm.localhost\r\n"
POST = b"POST /head HTTP/1.1\r\nHost: calm.localhost\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: calm.localhost\r\n\r\n"
MALFORMED = {
    "garbage": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
    "no-version": b"GET /\r\n\r\n",
    "version": b"GET / HTTP/9.9\r\nHost: calm.localhost\r\n\r\n",
    "no-host": b"GET / HTTP/1.1\r\n\r\n",
    "two-hosts": HEAD + b"Host: other.localhost\r\n\r\n",
    "host-million": b"GET / HTTP/1.1\r\nHost: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "host-at-sign": b"GET / HTTP/1.1\r\nHost: calm.localhost@evil\r\n\r\n",
    "target-differs": b"GET http://other.localhost/ HTTP/1.1\r\nHost: calm.localhost\r\n\r\n",
    "connect": b"CONNECT calm.localhost:80 HTTP/1.1\r\nHost: calm.localhost\r\n\r\n",
    "headers-40k": HEAD + b"X: " + b"y" * 40_000 + b"\r\n\r\n",
    "headers-1000": HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(1000)) + b"\r\n",
    "target-40k": b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: calm.localhost\r\n\r\n",
    "nul": HEAD + b"X: a\0b\r\n\r\n",
    "bare-cr": HEAD + b"X: a\rb\r\n\r\n",
    "folded": HEAD + b"X: a\r\n b\r\n\r\n",
    "space-before-colon": HEAD + b"X : a\r\n\r\n",
    "cl-te": POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "te-cl": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n33\r\n" + SMUGGLED + b"\r\n0\r\n\r\n",
    "te-twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "te-odd": POST + b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "te-tab": POST + b"Transfer-Encoding:\x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "cl-twice": POST + b"Content-Length: 0\r\nContent-Length: 52\r\n\r\n" + SMUGGLED,
    "cl-list": POST + b"Content-Length: 0, 52\r\n\r\n" + SMUGGLED,
    "cl-plus": POST + b"Content-Length: +0\r\n\r\n" + SMUGGLED,
    "cl-negative": POST + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "chunk-size": POST + b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + SMUGGLED,
    "chunk-endless": POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 100_000,
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_malformed_requests(installation, calm, kind):
    connection = await Connection.open(installation.port)
    connection.send(MALFORMED[kind])
    said = await connection.closed() if kind != "host-at-sign" else (await connection.response()).raw
    connection.close()
    statuses = re.findall(rb"HTTP/1\.1 (\d\d\d)", said)
    assert len(statuses) == 1, said[:500]
    assert statuses[0] in (b"400", b"404", b"414", b"431", b"501", b"505")
    assert b"smuggled" not in said


SLOW_CLIENTS = 150


async def test_slowloris(installation, calm):
    """Each sends a byte of its head now and then; all are told to go when their time is up."""

    async def drip() -> bytes:
        connection = await Connection.open(installation.port)
        connection.send(b"GET / HTTP/1.1\r\nHost: calm.localhost\r\nX: ")
        try:
            async with asyncio.timeout(20):
                while not connection.reader.at_eof():
                    connection.send(b"y")
                    try:
                        async with asyncio.timeout(1.0):
                            return await connection.reader.read(1000)
                    except TimeoutError:
                        continue
            return b""
        finally:
            connection.close()

    answers = await asyncio.gather(*(drip() for _ in range(SLOW_CLIENTS)))
    assert {answer[9:12] for answer in answers} == {b"408"}
