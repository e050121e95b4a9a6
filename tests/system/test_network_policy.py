"""What a site may reach, asked for in its spec."""

import asyncio
import json
import socket
import subprocess

import pytest

from containerlib.firewall import SERVICES, table_name
from containerlib.network import Addresses
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
