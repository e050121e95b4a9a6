"""What keeps a site awake, and what does not."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dispatcher.domain import Policy, Status
from tests.plugins.compute import Host, Proxy, python

pytestmark = pytest.mark.system

SHORT = Policy(idle_s=0.5)
AWAKE_S = 1.5  # long enough to have fallen asleep


async def stays_awake(proxy: Proxy, app: str) -> bool:
    try:
        await proxy.until_status(app, "1", Status.DRAINING, within_s=AWAKE_S)
    except TimeoutError:
        return True
    return False


@contextmanager
def connected_as(uid: int, address: str) -> Iterator[socket.socket]:
    """A silent connection of that user's; handed over, it stays his."""
    host, _, port = address.partition(":")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = os.fork()
        if child == 0:
            os.setresuid(uid, uid, uid)
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                socket.send_fds(theirs, [b"x"], [connection.fileno()])
            os._exit(0)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        os.waitpid(child, 0)
    with socket.socket(fileno=descriptors[0]) as connection:
        yield connection


async def test_a_silent_connection_of_somebody_who_is_no_proxy_keeps_it_awake(host: Host) -> None:
    await host.app("blog", *python("serve()"), policy=SHORT)
    live = await host.wake("blog")
    proxy = await host.proxy()
    with connected_as(4711, live.address):
        assert await stays_awake(proxy, "blog")
    await proxy.until_status("blog", "1", None)


async def test_an_idle_connection_of_a_proxys_user_does_not(host: Host) -> None:
    await host.app("blog", *python("serve()"), policy=SHORT)
    live = await host.wake("blog")
    proxy = await host.proxy()  # root's, here
    with connected_as(0, live.address):
        await proxy.until_status("blog", "1", None, within_s=5)


async def test_a_connection_of_the_app_to_its_database_does_not(host: Host) -> None:
    with socket.create_server((gateway(host), 0)) as database:
        port = database.getsockname()[1]
        program = f"d = socket.create_connection(('{gateway(host)}', {port})); serve()"
        await host.app("blog", *python(program), policy=SHORT, host_ports=(port,))
        await host.wake("blog")
        accepted, _ = database.accept()
        with accepted:
            await (await host.proxy()).until_status("blog", "1", None, within_s=5)


async def test_a_connection_of_the_app_to_itself_does_not(host: Host) -> None:
    program = """
threading.Thread(target=serve, daemon=True).start()
time.sleep(0.2)
kept = [socket.create_connection(("127.0.0.1", 80))]
signal.pause()
"""
    await host.app("blog", *python(program), policy=SHORT)
    await host.wake("blog")
    await (await host.proxy()).until_status("blog", "1", None, within_s=5)


def gateway(host: Host) -> str:
    return host.settings.network.replace(".0/24", ".1")


@contextmanager
def another_machine(host: Host) -> Iterator[int]:
    """The pid of a process in a network namespace that reaches containers through this host, as another machine would."""
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        ip("link", "add", "fctest0", "type", "veth", "peer", "name", "eth0", "netns", str(process.pid))
        ip("addr", "add", "198.51.100.1/24", "dev", "fctest0")
        ip("link", "set", "fctest0", "up")
        forward("fctest0")
        inside = ("nsenter", "--target", str(process.pid), "--net", "ip")
        for words in ("addr add 198.51.100.9/24 dev eth0", "link set eth0 up", "route add default via 198.51.100.1"):
            subprocess.run([*inside, *words.split()], check=True)
        try:
            yield process.pid
        finally:
            ip("link", "del", "fctest0")
            process.kill()


def forward(link: str) -> None:
    Path(f"/proc/sys/net/ipv4/conf/{link}/forwarding").write_text("1")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


async def test_a_silent_connection_from_another_machine_keeps_it_awake(host: Host) -> None:
    await host.app("blog", *python("serve()"), policy=SHORT)
    live = await host.wake("blog")
    proxy = await host.proxy()
    proxy.traffic(live.life, 1)
    host_name, _, port = live.address.partition(":")
    link = next(name for _, name in socket.if_nameindex() if name.endswith(hexadecimal(host_name)))
    with another_machine(host) as machine:
        forward(link)
        program = (
            f"import socket; s = socket.create_connection(('{host_name}', {port}), 5); print(flush=True); s.recv(1)"
        )
        command = ["nsenter", "--target", str(machine), "--net", "/usr/bin/python3", "-c", program]
        client = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert client.stdout is not None
        assert await client.stdout.readline()
        proxy.traffic(live.life, 0)
        assert await stays_awake(proxy, "blog")
        client.kill()
        await client.communicate()
    await proxy.until_status("blog", "1", None)


def hexadecimal(address: str) -> str:
    return "".join(f"{int(part):02x}" for part in address.split("."))
