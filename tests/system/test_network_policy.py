"""What a site may reach, asked for in its spec."""

import asyncio
import json
import socket
import subprocess
import time

import pytest

from containerlib.firewall import SERVICES, table_name
from containerlib.network import Addresses
from dispatcher.compute.protocol import Live
from tests.plugins.compute import Host, python, until

pytestmark = pytest.mark.system

# Each request makes it try the host's port, and say how that went.
DIALS = """
def answer(connection):
    connection.recv(65536)
    try:
        socket.create_connection((HOST, PORT), timeout=2).close()
        how = "reached"
    except OSError as error:
        how = error.strerror
    connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + how.encode())
    connection.close()
serve()
"""


def dials(host: Host, port: int) -> tuple[str, ...]:
    address = Addresses.parse(host.settings.network).host
    return python(DIALS.replace("HOST", repr(address)).replace("PORT", str(port)))


async def asked(address: str) -> str:
    name, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.rpartition(b"\r\n\r\n")[2].decode()


def granted(host: Host) -> list[object]:
    table = table_name(Addresses.parse(host.settings.network).network)
    found = json.loads(subprocess.check_output(["nft", "-j", "list", "set", "inet", table, SERVICES]))["nftables"]
    return list(next(each["set"] for each in found if "set" in each).get("elem", []))


# It sends as many bytes as are asked for, and takes what it is sent.
PUMP = """
def answer(connection):
    head = connection.recv(100).decode().split()
    if head[0] == "GET":
        connection.sendall(bytes(int(head[1])))
    else:
        left = int(head[1])
        while left:
            left -= len(connection.recv(min(left, 65536)))
        connection.sendall(b"x")
    connection.close()
serve()
"""
PUMPED = 1 << 20  # bytes; at RATE it takes one second
RATE = PUMPED * 8


async def took(live: Live, verb: str) -> float:
    """Seconds, for PUMPED bytes from it (GET) or to it (PUT)."""
    name, _, port = live.address.partition(":")
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(f"{verb} {PUMPED} ".ljust(100).encode())
    if verb == "PUT":
        writer.write(bytes(PUMPED))
    await reader.readexactly(PUMPED if verb == "GET" else 1)
    writer.close()
    await writer.wait_closed()
    return time.monotonic() - began


async def test_a_limit_of_bandwidth_holds_each_way_for_one_site_and_changes_while_it_runs(host: Host) -> None:
    await host.app("blog", *python(PUMP), bandwidth_bps=RATE)
    await host.app("shop", *python(PUMP))
    blog, shop = await host.wake("blog"), await host.wake("shop")
    both = asyncio.gather(*(took(blog, verb) for verb in ("GET", "PUT")))
    others = [await took(shop, verb) for verb in ("GET", "PUT")]
    assert not both.done()
    assert max(others) < 0.6
    assert all(0.6 < each < 4 for each in await both)
    host.kill_agent()
    await host.detach()
    await host.start_agent()
    assert 0.6 < await took(blog, "GET") < 4
    assert (await host.wake("blog")).life == blog.life
    await host.edit("blog", bandwidth_bps=None)
    deadline = time.monotonic() + 20
    while max([await took(blog, verb) for verb in ("GET", "PUT")]) > 0.5:
        assert time.monotonic() < deadline
    await host.edit("blog", bandwidth_bps=RATE)
    while min([await took(blog, verb) for verb in ("GET", "PUT")]) < 0.6:
        assert time.monotonic() < deadline
    assert (await host.wake("blog")).life == blog.life
    assert [event.message for event in await host.events("blog") if event.kind == "refused"] == []


async def test_a_site_reaches_the_port_of_its_host_that_it_was_granted_and_its_neighbour_does_not(host: Host) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port: int = server.getsockname()[1]
        await host.app("blog", *dials(host, port), host_ports=(port,))
        await host.app("shop", *dials(host, port))
        blog, shop = await host.wake("blog"), await host.wake("shop")
        assert await asked(blog.address) == "reached"
        assert await asked(shop.address) == "Connection refused"
        # Its grant outlives the agent, and goes with the container.
        await host.detach()
        host.kill_agent()
        assert await asked(blog.address) == "reached"
        await host.start_agent()
        assert await asked(blog.address) == "reached"
        assert granted(host) == [{"concat": [blog.address.partition(":")[0], port]}]
        await (await host.proxy()).stop("blog")
        await until(lambda: granted(host) == [])
        await host.edit("blog", host_ports=())
        await host.known("blog")
        assert await asked((await host.wake("blog")).address) == "Connection refused"
