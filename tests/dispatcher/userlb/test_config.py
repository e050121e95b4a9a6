"""What HAProxy itself makes of the configuration."""

import asyncio
import socket
import subprocess
import time
from pathlib import Path

import pytest

from dispatcher.userlb import config, entrance
from dispatcher.userlb.config import COLD, Pool
from dispatcher.userlb.lanes import Allow, Close, Open, Rescue, Route, SlotId

FIRST, SECOND = SlotId("lane0", 0), SlotId("lane0", 1)


def names(*routes: tuple[str, str]) -> list[Route]:
    return [Route(domain, lane, True) for domain, lane in routes]


def test_haproxy_accepts_it_with_all_its_lanes(tmp_path: Path) -> None:
    pool = Pool(
        ("127.0.0.1:8080", "[::1]:8080"), ("127.0.0.1:8082", "127.0.0.1:8083"), ("10.0.0.0/8",), str(tmp_path),
        secure=("127.0.0.1:8443",), speak_proxy=("10.0.0.0/8",), files=f"{tmp_path}/files.sock", client_connections=9,
        client_requests_per_s=9.0,
    )  # fmt: skip
    for path in pool.maps:
        Path(path).touch()
    entrance.prepare(pool, time.time())
    Path(pool.configuration).write_text(config.text(pool))
    done = subprocess.run(["haproxy", "-c", "-f", pool.configuration], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[WARNING]" not in done.stderr


def test_another_pool_is_another_version(tmp_path: Path) -> None:
    pool = Pool(("127.0.0.1:8080",), ("127.0.0.1:8082",), (), str(tmp_path), lanes=2)
    other = Pool(("127.0.0.1:8080",), ("127.0.0.1:8082",), (), str(tmp_path), lanes=3)
    versions = [config.description(config.text(each)) for each in (pool, pool, other)]
    assert versions[0] == versions[1] != versions[2]


LEADS = [
    ("blog.test", "warm"),
    ("BLOG.Test.:8080", "warm"),
    ("a.wild.test", "warm"),
    ("b.a.wild.test", "warm"),
    ("wild.test", "proxy"),
    ("cold.wild.test", "proxy"),
    ("a.cold.wild.test", "warm"),  # an exact name says nothing of what is below it
    ("x.near.wild.test", "proxy"),
    ("1.2.3.4.5.6.7.8.wild.test", "warm"),
    ("1.2.3.4.5.6.7.8.9.wild.test", "proxy"),  # deeper than is looked
    ("nobody.test", "proxy"),
    ("blog.test:123456", "proxy"),
    ("blog.test..", "proxy"),
]


async def test_each_host_leads_where_it_should(front) -> None:
    address = await front.site("warm")
    routes = names(
        ("blog.test", "lane0"), ("cold.wild.test", COLD), ("*.near.wild.test", COLD), ("*.wild.test", "lane0")
    )
    await front.runtime.do([Open(FIRST, address, 8), Allow("lane0", "9000:9", True), *routes])
    assert [(host, (await front.ask(host)).body.decode()) for host, _ in LEADS] == LEADS


@pytest.mark.parametrize(
    "fields",
    [{"connection": "x-y"}, {"connection": "upgrade", "upgrade": "other"}, {"accept": "text/event-stream"}],
    ids=str,
)
async def test_what_is_not_plain_goes_to_the_proxies(front, fields) -> None:
    address = await front.site("warm")
    await front.runtime.do([Open(FIRST, address, 8), Allow("lane0", "9000:9", True), *names(("blog.test", "lane0"))])
    assert (await front.ask("blog.test")).body == b"warm"
    assert (await front.ask("blog.test", **fields)).body == b"proxy"


async def test_the_container_gets_true_headers_and_none_that_only_we_may_send(front) -> None:
    address = await front.site("warm")
    await front.runtime.do([Open(FIRST, address, 8), Allow("lane0", "9000:9", True), *names(("blog.test", "lane0"))])
    forged = {"x_fastcontainer_route": "1", "x_forwarded_for": "6.6.6.6", "forwarded": "for=6.6.6.6", "proxy": "evil"}
    await front.ask("Blog.test:80", te="trailers", x_real_ip="6.6.6.6", **forged)
    lines = front.heads[-1][1].decode().lower().split("\r\n")
    assert "host: blog.test:80" in lines
    assert "x-forwarded-for: 127.0.0.1" in lines
    assert 'forwarded: for=127.0.0.1;host="blog.test:80";proto=http' in lines
    assert "connection: close" in lines
    assert not [line for line in lines if "6.6.6.6" in line or line.startswith(("te:", "proxy:", "x-fastcontainer"))]


async def test_a_saturated_lane_queues_and_spills_nothing(front) -> None:
    address = await front.site("slow", takes_s=0.1)
    await front.runtime.do([Open(FIRST, address, 1), Allow("lane0", "9000:99", True), *names(("blog.test", "lane0"))])
    answers = await asyncio.gather(*(front.ask("blog.test") for _ in range(8)))
    assert [answer.body for answer in answers] == [b"slow"] * 8


async def test_more_than_may_wait_are_refused_at_once(front) -> None:
    address = await front.site("slow", takes_s=0.3)
    await front.runtime.do([Open(FIRST, address, 1), Allow("lane0", "9000:2", True), *names(("blog.test", "lane0"))])
    answers = await asyncio.gather(*(front.ask("blog.test") for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200] * 3 + [503] * 5
    refused = next(answer for answer in answers if answer.status == 503)
    assert refused.headers["retry-after"] == "5"
    assert refused.headers["x-request-id"].encode() in refused.body


async def test_what_waits_for_a_slot_that_is_closed_goes_to_the_proxies(front) -> None:
    address = await front.site("slow", takes_s=0.3)
    await front.runtime.do([Open(FIRST, address, 1), Allow("lane0", "9000:99", True), *names(("blog.test", "lane0"))])
    asked = asyncio.gather(*(front.ask("blog.test") for _ in range(5)))
    async with asyncio.timeout(5):
        while (await front.runtime.read()).in_lane["lane0"] < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await front.runtime.do([Close(FIRST), Rescue("lane0")])
    assert sorted(answer.body for answer in await asked) == [b"proxy"] * 4 + [b"slow"]


async def test_a_request_to_a_dead_container_is_answered_by_a_proxy_after_the_agents_word(front) -> None:
    address = await front.site("dead")
    await front.runtime.do([Open(FIRST, address, 8), Allow("lane0", "9000:99", True), *names(("blog.test", "lane0"))])
    front.servers.pop("dead").close()
    asked = asyncio.gather(front.ask("blog.test"), front.ask("blog.test", method="POST", content_length="0"))
    await asyncio.sleep(0.05)
    await front.runtime.do([Close(FIRST), Rescue("lane0")])
    assert [answer.body for answer in await asked] == [b"proxy"] * 2  # the POST was not sent before, either


async def test_a_post_is_never_sent_twice_and_a_get_is_repeated_by_a_proxy(front) -> None:
    address = await front.site("dying", answers=False)
    await front.runtime.do([Open(FIRST, address, 8), Allow("lane0", "9000:99", True), *names(("blog.test", "lane0"))])
    posted = await front.ask("blog.test", method="POST", content_length="0")
    assert (posted.status, front.asked("dying"), front.asked("proxy")) == (502, 1, 0)
    front.dies.add("dying")
    asked = asyncio.gather(front.ask("blog.test"))
    async with asyncio.timeout(5):
        while front.asked("dying") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await front.runtime.do([Close(FIRST), Rescue("lane0")])
    assert [answer.body for answer in await asked] == [b"proxy"]
    assert front.asked("dying") == 2


async def test_an_apps_own_503_is_its_answer_and_asked_for_once(front) -> None:
    asked = []

    async def unavailable(reader, writer) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")
        writer.close()

    front.servers["busy"] = server = await asyncio.start_server(unavailable, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await front.runtime.do([Open(FIRST, address, 8), Allow("lane0", "9000:9", True), *names(("blog.test", "lane0"))])
    answer = await front.ask("blog.test")
    assert (answer.status, answer.body, len(asked), front.asked("proxy")) == (503, b"busy", 1, 0)


async def test_of_many_requests_some_are_logged_and_all_are_counted(front) -> None:
    """200 in a burst where 20 a second are to be logged: HAProxy's rate is that of the last second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(front.pool.log_socket)
        log.setblocking(False)
        lines: list[bytes] = []
        loop = asyncio.get_running_loop()
        loop.add_reader(log, lambda: lines.append(log.recv(8192)))
        address = await front.site("warm")
        await front.runtime.do(
            [Open(FIRST, address, 8), Allow("lane0", "9000:99", True), *names(("blog.test", "lane0"))]
        )
        for _ in range(20):
            await asyncio.gather(*(front.ask("blog.test") for _ in range(10)))
        await asyncio.sleep(0.1)
        loop.remove_reader(log)
    logged = sum(b'"lane":"lane0"' in line for line in lines)
    assert 20 <= logged < 120, logged
    assert (await front.runtime.read()).slots[FIRST].total == 200
