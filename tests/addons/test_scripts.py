"""The proxies as people start them: `mitmdump -s` and the console scripts, with a real etcd."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dispatcher.cmdb import keys
from dispatcher.cmdb.client import EtcdStore
from dispatcher.cmdb.store import Put
from dispatcher.domain import AppSpec, ComputeRow, ContainerRow
from dispatcher.settings import Settings
from tests.fakes import sites
from tests.fakes.agent import FakeAgent
from tests.fakes.clients import Connection, Response, ask
from tests.fakes.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

COMMANDS = {
    "mitmdump": lambda role: [str(BIN / "mitmdump"), "-s", f"addons/{role}.py"],
    "lean": lambda role: [str(BIN / f"fastcontainer-{role}")],
    "verb": lambda role: [str(BIN / "fastcontainer"), role],
}


SCRIPT = """
def requestheaders(flow):
    flow.request.headers["X-Script"] = "asked"

def responseheaders(flow):
    flow.response.headers["X-Script"] = "answered"
"""


class Host:
    def __init__(self, path: Path, endpoint: str, **more: str) -> None:
        self.path = path
        self.ports = {name: free_port() for name in ("userproxy", "webdispatcher")}
        self.environ = {
            "FASTCONTAINER_ETCD": endpoint,
            "FASTCONTAINER_COMPUTE": "here",
            "FASTCONTAINER_RUN_DIR": str(path),
            "FASTCONTAINER_LOG_DIR": str(path),
            "FASTCONTAINER_ROUTE_KEY_FILE": str(path / "route.key"),
        } | more
        for name, port in self.ports.items():
            self.environ[f"FASTCONTAINER_{name.upper()}_LISTEN"] = f"127.0.0.1:{port}"
            self.environ[f"FASTCONTAINER_{name.upper()}_METRICS"] = f"127.0.0.1:{free_port()}"
        self.agent = FakeAgent(str(path / "agent.sock"))
        (path / "route.key").write_bytes(b"0123456789abcdef0123456789abcdef")

    @asynccontextmanager
    async def program(self, kind: str, role: str) -> AsyncIterator[asyncio.subprocess.Process]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FASTCONTAINER_")}
        process = await asyncio.create_subprocess_exec(
            *COMMANDS[kind](role), cwd=ROOT, env=environ | self.environ, stdin=asyncio.subprocess.DEVNULL
        )
        try:
            await self.agent.until(lambda: role in self.agent.attached, within_s=30)
            await self.listens(self.ports[role])
            yield process
        except BaseException:
            await self.agent.close()
            raise
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(15):
                await process.wait()
        assert process.returncode == 0

    async def listens(self, port: int) -> None:
        async with asyncio.timeout(20):
            while True:
                try:
                    response = await ask(port, "nobody.test")
                except (OSError, asyncio.IncompleteReadError):
                    await asyncio.sleep(0.05)
                    continue
                if response.status in (403, 404) and "x-request-id" in response.headers:
                    return
                await asyncio.sleep(0.05)


async def seed(endpoint: str, compute: str, dispatcher: str) -> None:
    store = EtcdStore(Settings(etcd=(endpoint,)))
    row = ComputeRow(dispatcher=dispatcher, cores=2, memory_bytes=1 << 30)
    values: dict[str, Any] = {
        keys.spec_key("blog"): AppSpec(command=("/bin/true",)),
        keys.container_key("blog", "1"): ContainerRow(compute=compute),
        keys.compute_key(compute): row,
    }
    puts = [Put(key, msgspec.json.encode(value)) for key, value in values.items()]
    await store.commit([], [*puts, Put(keys.domain_key("blog.test"), b"blog")])
    await store.close()


@pytest.mark.parametrize("kind", COMMANDS)
async def test_userproxy(kind, etcd, tmp_path):
    await seed(etcd.endpoint, "here", "127.0.0.1:1")
    host = Host(tmp_path, etcd.endpoint)
    await host.agent.start()
    host.agent.site("blog", sites.echo_head, start_s=0.05)
    async with host.program(kind, "userproxy"):
        response = await ask(host.ports["userproxy"], "Blog.test:8080")
    await host.agent.close()
    assert response.status == 200
    assert b"\r\nHost: Blog.test:8080\r\n" in response.body


async def test_other_scripts_have_their_say(etcd, tmp_path, monkeypatch):
    """A cold request and a warm one, which needs no hook of ours."""
    await seed(etcd.endpoint, "here", "127.0.0.1:1")
    host = Host(tmp_path, etcd.endpoint)
    (tmp_path / "theirs.py").write_text(SCRIPT)
    command = [str(BIN / "mitmdump"), "-s", str(tmp_path / "theirs.py"), "-s", "addons/userproxy.py"]
    monkeypatch.setitem(COMMANDS, "mitmdump", lambda role: command)
    await host.agent.start()
    host.agent.site("blog", sites.echo_head, start_s=0.05)
    async with host.program("mitmdump", "userproxy"):
        answers = [await ask(host.ports["userproxy"], "blog.test") for _ in range(2)]
    await host.agent.close()
    for answer in answers:
        assert (answer.status, answer.headers["x-script"]) == (200, "answered")
        assert b"\r\nX-Script: asked\r\n" in answer.body


async def test_mitmdump_does_not_mind_that_8080_is_taken(etcd, tmp_path):
    await seed(etcd.endpoint, "here", "127.0.0.1:1")
    host = Host(tmp_path, etcd.endpoint)
    await host.agent.start()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # somebody else has it: as good
            stack.enter_context(socket.create_server(("0.0.0.0", 8080)))
        async with host.program("mitmdump", "userproxy"):
            pass
    await host.agent.close()


@pytest.mark.parametrize("kind", COMMANDS)
async def test_two_hops(kind, etcd, tmp_path):
    host = Host(tmp_path, etcd.endpoint, FASTCONTAINER_SHORT_CUT="false")
    dispatcher = host.ports["webdispatcher"]
    await seed(etcd.endpoint, "here", f"127.0.0.1:{dispatcher}")
    await host.agent.start()
    site = host.agent.site("blog", sites.echo_head, start_s=0.05)
    async with host.program(kind, "webdispatcher"), host.program(kind, "userproxy"):
        user = host.ports["userproxy"]
        responses = await asyncio.gather(*(ask(user, "blog.test", X_FastContainer_Route="forged") for _ in range(20)))
        unsigned = await ask(dispatcher, "blog.test")
        forged = await ask(dispatcher, "blog.test", X_FastContainer_Route="blog 1 x 1.0 0000")
        check_head(responses)
    await host.agent.close()
    assert (unsigned.status, forged.status) == (403, 403)
    assert site.starts == 1


def check_head(responses: list[Response]) -> None:
    assert [response.status for response in responses] == [200] * len(responses)
    for response in responses:
        assert response.body.lower().count(b"x-forwarded-for") == 1
        assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in response.body
        assert b"x-fastcontainer" not in response.body.lower()


async def test_stopping_lets_what_is_under_way_end(etcd, tmp_path):
    await seed(etcd.endpoint, "here", "127.0.0.1:1")
    host = Host(tmp_path, etcd.endpoint)
    go_on = asyncio.Event()

    @sites.quiet
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await sites.read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        await go_on.wait()
        writer.write(b"b")

    await host.agent.start()
    host.agent.site("blog", slow)
    async with host.program("lean", "userproxy") as process:
        connection = await Connection.open(host.ports["userproxy"])
        connection.send(b"GET / HTTP/1.1\r\nHost: blog.test\r\n\r\n")
        assert await connection.reader.readuntil(b"\r\n\r\na")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            while True:
                try:
                    (await Connection.open(host.ports["userproxy"])).close()
                except ConnectionError:
                    break
                await asyncio.sleep(0.02)
        go_on.set()
        assert await connection.reader.readexactly(1) == b"b"
        connection.close()
        assert await process.wait() == 0
    await host.agent.close()
