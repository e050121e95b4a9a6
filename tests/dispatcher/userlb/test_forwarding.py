"""A container and a visitor see the same fields in a lane as by a UserProxy: HAProxy is compared with addons/headers.py."""

from collections import Counter

import pytest

from addons import headers
from dispatcher.userlb.lanes import Allow, Open, Route, SlotId
from tests.fakes.clients import Connection

SLOT = SlotId("lane0", 0)
HOST = ("Host", "Blog.test:80")

SENT = [
    [],
    [("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=6.6.6.6"), ("X-Real-IP", "6.6.6.6")],
    [("X-Forwarded-For", "1.2.3.4, 5.6.7.8"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "www.test")],
    [("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Port", "8443"), ("X-Forwarded-Prefix", "/p"), ("Forwarded", "for=a")],
    [("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Server", "me")],
    [("X_Forwarded_For", "6.6.6.6"), ("x-forwarded_proto", "https"), ("X_Real_IP", "6.6.6.6"), ("X_Forwarded-Host", "a")],
    [("X-FastContainer-Route", "forged"), ("x_fastcontainer_route", "forged"), ("X_FastContainer-Page", "ours")],
    [("Keep-Alive", "5"), ("Proxy-Connection", "close"), ("TE", "trailers"), ("Trailer", "X"), ("Proxy", "evil")],
    [("Proxy-Authorization", "Basic x"), ("Authorization", "Basic y"), ("Cookie", "a=1"), ("X-Request-Id", "theirs")],
]  # fmt: skip


def of_head(raw: bytes) -> Counter[tuple[str, str]]:
    """Its fields without Connection, which both set to `close`."""
    lines = raw.decode().split("\r\n")[1:]
    pairs = (line.split(": ", 1) for line in lines if line)
    return Counter((name.lower(), value) for name, value in pairs if name.lower() != "connection")


@pytest.mark.parametrize("front", [{}, {"trusted": ("127.0.0.0/8",)}], indirect=True, ids=["stranger", "trusted"])
async def test_a_container_gets_the_same_fields(front) -> None:
    address = await front.site("warm")
    routes = [Route("blog.test", "lane0", True)]
    await front.runtime.do([Open(SLOT, address, 8), Allow("lane0", "9000:9", True), *routes])
    for sent in SENT:
        front.heads.clear()
        await send_both_ways(front, sent)
        by_addon = headers.with_forwarded(
            headers.end_to_end(tuple((name.encode(), value.encode()) for name, value in (HOST, *sent))),
            peer="127.0.0.1",
            host=HOST[1].encode(),
            trust=bool(front.pool.trusted),
        )
        expected = Counter((name.decode().lower(), value.decode()) for name, value in by_addon)
        assert {who: of_head(raw) for who, raw in front.heads} == {"warm": expected, "proxy": expected}, sent


async def send_both_ways(front, sent: list[tuple[str, str]]) -> None:
    connection = await Connection.open(front.port)
    head = "".join(f"{name}: {value}\r\n" for name, value in (HOST, *sent))
    for target in ("/", "*"):  # the second goes to a UserProxy, as anything odd does
        connection.send(f"OPTIONS {target} HTTP/1.1\r\n{head}\r\n".encode())
        assert (await connection.response()).body == (b"warm" if target == "/" else b"proxy")
    connection.close()


SAYS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-FastContainer-Page: ours\r\nx_fastcontainer_route: 1\r\nKeep-Alive: 5\r\n"
    b"Upgrade: h2c\r\nTrailer: X\r\nProxy-Authenticate: Basic\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nServer-Timing: app;dur=1\r\n"
    b"Content-Type: text/css\r\n\r\nx"
)


@pytest.mark.parametrize("policy", ["9000:9", "9000:9:timed"])
async def test_a_visitor_gets_the_same_fields_of_a_containers_response(front, policy) -> None:
    address = await front.site("warm", answers=False, says=SAYS)
    await front.runtime.do([Open(SLOT, address, 8), Allow("lane0", policy, True), Route("blog.test", "lane0", True)])
    connection = await Connection.open(front.port)
    connection.send(b"GET / HTTP/1.1\r\nHost: blog.test\r\n\r\n")
    head = await connection.head()
    connection.close()
    got = of_head(head.head)
    lines = [line.split(b": ", 1) for line in SAYS.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
    passed = headers.end_to_end(tuple((name, value) for name, value in lines))
    expected = Counter((name.decode().lower(), value.decode()) for name, value in passed)
    more = got - expected
    assert not expected - got
    if policy.endswith("timed"):
        ((name, value),) = more
        assert name == "server-timing"
        assert [part.split(";dur=")[0] for part in value.split(", ")] == ["queue", "firstbyte"]
    else:
        assert not more
