"""What HAProxy does before a container is thought of: redirects, limits, the PROXY protocol, HTTP/2."""

import asyncio
import json

import httpx
import pytest

from dispatcher.domain import Front
from dispatcher.userlb.entrance import Entrance
from dispatcher.userlb.fronts import PERIOD_S
from dispatcher.userlb.lanes import Allow, Open, Route, SlotId
from tests.fakes.clients import Connection
from tests.fakes.ports import free_port

SLOT = SlotId("lane0", 0)
SECURE = {"secure": (f"127.0.0.1:{free_port()}",)}
DOMAINS = {"blog.test": "blog", "*.blog.test": "blog", "free.blog.test": "free", "free.test": "free"}


async def ruled(front, rules: Front, *, warm: bool = True, **options) -> None:
    if warm:
        address = await front.site("warm", **options)
        routes = [Route("blog.test", "lane0", True), Route("*.blog.test", "lane0", True)]
        await front.runtime.do([Open(SLOT, address, 8), Allow("lane0", "9000:9", True), *routes])
    await Entrance(front.pool, front.runtime).rule(DOMAINS, {"blog": rules, "free": Front()})


def secure_client(front, *, http2: bool) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=False, http2=http2, base_url=f"https://{front.pool.secure[0]}")


@pytest.mark.parametrize("front", [SECURE], indirect=True)
async def test_plain_requests_are_sent_to_https_where_the_app_says_so(front) -> None:
    await ruled(front, Front(https=True, hsts_s=600), warm=False)
    for host in ("blog.test", "Blog.Test.:8080", "www.blog.test"):
        response = await front.ask(host, "/a?b=c", method="POST", content_length="0")
        assert response.status == 308
        assert response.headers["location"] == f"https://{host.lower().split(':')[0].rstrip('.')}/a?b=c"
        assert "strict-transport-security" not in response.headers
    for host in ("free.test", "free.blog.test"):
        assert (await front.ask(host)).body == b"proxy"
    async with secure_client(front, http2=False) as client:
        response = await client.get("/", headers={"Host": "blog.test"})
        assert response.headers["strict-transport-security"] == "max-age=600"
        response = await client.get("/", headers={"Host": "free.test"})
        assert "strict-transport-security" not in response.headers
    assert b"\r\nx-forwarded-proto: https\r\n" in front.heads[-1][1].lower()


@pytest.mark.parametrize("front", [SECURE | {"trusted": ("127.0.0.0/8",)}], indirect=True)
async def test_what_a_trusted_balancer_took_by_https_is_not_redirected(front) -> None:
    await ruled(front, Front(https=True), warm=False)
    assert (await front.ask("blog.test", x_forwarded_proto="https")).body == b"proxy"


@pytest.mark.parametrize("front", [SECURE], indirect=True)
@pytest.mark.parametrize("http2", [True, False])
async def test_http2_and_1_lead_to_the_same_lane(front, http2) -> None:
    await ruled(front, Front())
    async with secure_client(front, http2=http2) as client:
        responses = await asyncio.gather(*(client.get(f"/{n}?q", headers={"Host": "blog.test"}) for n in range(5)))
    assert {(each.http_version, each.text) for each in responses} == {("HTTP/2" if http2 else "HTTP/1.1", "warm")}
    lines = front.heads[-1][1].decode().lower().split("\r\n")
    assert lines[0].startswith("get /") and lines[0].endswith("?q http/1.1")
    assert "host: blog.test" in lines
    assert 'forwarded: for=127.0.0.1;host="blog.test";proto=https' in lines


async def test_an_apps_rate(front) -> None:
    await ruled(front, Front(requests_per_s=0.5))
    answers = [await front.ask("blog.test", accept="application/json") for _ in range(8)]
    allowed = round(0.5 * PERIOD_S)
    assert [answer.status for answer in answers] == [200] * allowed + [429] * (8 - allowed)
    assert answers[-1].headers["retry-after"] == "5"
    assert json.loads(answers[-1].body)["code"] == "too_many_requests"
    assert front.asked("warm") == allowed
    assert (await front.ask("free.test")).status == 200


@pytest.mark.parametrize("front", [{"speak_proxy": ("127.0.0.0/8",)}], indirect=True)
async def test_the_rate_of_each_client_behind_a_load_balancer(front) -> None:
    await ruled(front, Front(client_requests_per_s=0.2))

    async def ask_from(client: str) -> tuple[int, bool]:
        connection = await Connection.open(front.port)
        connection.send(f"PROXY TCP4 {client} 127.0.0.1 5555 80\r\n".encode())
        status = (await connection.ask("blog.test")).status
        connection.close()
        return status, f"\r\nx-forwarded-for: {client}\r\n".encode() in front.heads[-1][1].lower()

    first = [await ask_from("203.0.113.1") for _ in range(3)]
    assert [status for status, _ in first] == [200, 200, 429]
    assert first[0][1]
    assert await ask_from("203.0.113.2") == (200, True)


@pytest.mark.parametrize("front", [{"speak_proxy": ("192.0.2.0/24",)}], indirect=True)
async def test_a_stranger_may_not_say_who_it_is(front) -> None:
    connection = await Connection.open(front.port)
    connection.send(b"PROXY TCP4 203.0.113.1 127.0.0.1 5555 80\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert (await connection.response()).status == 400
    connection.close()
    assert front.heads == []


async def test_requests_under_way(front) -> None:
    await ruled(front, Front(in_flight_max=2), takes_s=0.5)
    answers = await asyncio.gather(*(front.ask("blog.test") for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 200, 429, 429, 429]
    assert (await front.ask("blog.test")).status == 200


@pytest.mark.parametrize("front", [{"client_requests_per_s": 0.3, "client_connections": 2}], indirect=True)
async def test_what_one_client_may_over_all_apps(front) -> None:
    connections = [await Connection.open(front.port) for _ in range(2)]
    for connection in connections:
        assert (await connection.ask("free.test")).status == 200
    with pytest.raises(ConnectionError):
        await front.ask("a.test")
    assert (await connections[0].ask("b.test")).status == 200
    assert (await connections[0].ask("c.test")).status == 429
    for connection in connections:
        connection.close()


LENGTHS = {"10": 200, "11": 413, "5000000000": 413, "922337203685477580": 413, "9223372036854775807": 400}


async def test_a_body_that_says_its_length(front) -> None:
    await ruled(front, Front(body_bytes_max=10))
    for length, status in LENGTHS.items():
        connection = await Connection.open(front.port)
        connection.send(f"POST / HTTP/1.1\r\nHost: blog.test\r\nContent-Length: {length}\r\n\r\n0123456789".encode())
        response = await connection.response()
        connection.close()
        assert response.status == status, length
        if status == 413:
            assert json.loads(response.body)["code"] == "body_too_large"


async def test_a_body_of_unknown_length_goes_where_it_is_counted(front) -> None:
    await ruled(front, Front(body_bytes_max=10))
    connection = await Connection.open(front.port)
    connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
    assert (await connection.response()).body == b"proxy"
    connection.close()
