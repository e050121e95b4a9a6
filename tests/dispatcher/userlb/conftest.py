"""A real HAProxy with two lanes, servers that say who they are, and a controller that is alive."""

import asyncio
import resource
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dispatcher.userlb import config
from dispatcher.userlb.config import Pool
from dispatcher.userlb.haproxy import Runtime
from tests.fakes.clients import Response, ask
from tests.fakes.ports import free_port


@dataclass
class Front:
    pool: Pool
    runtime: Runtime
    heads: list[tuple[str, bytes]] = field(default_factory=list)  # who was asked, and what
    servers: dict[str, asyncio.Server] = field(default_factory=dict)
    dies: set[str] = field(default_factory=set)  # with the next request

    @property
    def port(self) -> int:
        return int(self.pool.listen[0].rpartition(":")[2])

    async def site(self, name: str, port: int = 0, *, takes_s: float = 0.0, answers: bool = True) -> str:
        """Its address. Its body is its name; without an answer it closes the connection."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                self.heads.append((name, await reader.readuntil(b"\r\n\r\n")))
                if name in self.dies:
                    self.servers.pop(name).close()
                await asyncio.sleep(takes_s)
                if answers:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name.encode()))
            except asyncio.IncompleteReadError:
                pass
            finally:
                writer.close()

        self.servers[name] = await asyncio.start_server(serve, "127.0.0.1", port)
        return f"127.0.0.1:{self.servers[name].sockets[0].getsockname()[1]}"

    async def ask(self, host: str, path: str = "/", method: str = "GET", **fields: str) -> Response:
        return await ask(self.port, host, path, method, **fields)

    def asked(self, name: str) -> int:
        return sum(each == name for each, _ in self.heads)


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    directory = tempfile.mkdtemp(prefix="fc-userlb-")  # short: a socket's path has 108 characters
    proxy, listen = free_port(), free_port()
    open_files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    pool = Pool(
        (f"127.0.0.1:{listen}",), (f"127.0.0.1:{proxy}",), (), directory,
        lanes=2, slots=2, connections_max=min(200, open_files_max // 3),
    )  # fmt: skip
    file = _write(pool)
    front = Front(pool, Runtime(pool))
    await front.site("proxy", proxy)

    async def alive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"alive\n")
        writer.close()

    controller = await asyncio.start_unix_server(alive, pool.alive_socket)
    process = await asyncio.create_subprocess_exec(
        "haproxy", "-f", str(file), stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _until_it_answers(front)
        yield front
    finally:
        process.kill()
        await process.wait()
        controller.close()
        for server in front.servers.values():
            server.close()
        shutil.rmtree(directory)


def _write(pool: Pool) -> Path:
    for path in pool.maps:
        Path(path).touch()
    file = Path(pool.directory, "haproxy.cfg")
    file.write_text(config.text(pool))
    return file


async def _until_it_answers(front: Front) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await front.runtime.info()
                return
            except OSError:
                await asyncio.sleep(0.02)
