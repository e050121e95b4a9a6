"""A real HAProxy with two lanes, servers that say who they are, and a controller that is alive.

front   HAProxy alone, for a test that says itself what it is to do
world   a whole UserLB, with a CMDB in memory, an agent that is a fake and a server in the UserProxies' place
"""

import asyncio
import contextlib
import resource
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from dispatcher.cmdb import keys
from dispatcher.cmdb.memory import MemoryStore
from dispatcher.cmdb.store import Delete, Put
from dispatcher.compute.protocol import Live
from dispatcher.domain import AppSpec, Policy
from dispatcher.settings import Settings
from dispatcher.userlb import config, entrance
from dispatcher.userlb.config import COLD, Pool
from dispatcher.userlb.daemon import UserLB
from dispatcher.userlb.haproxy import Runtime
from tests.fakes.agent import FakeAgent, Handler
from tests.fakes.clients import Response, ask
from tests.fakes.ports import free_port
from tests.fakes.sites import answering, text
from tests.plugins.installation import wait_for


@dataclass
class Front:
    pool: Pool
    runtime: Runtime
    heads: list[tuple[str, bytes]] = field(default_factory=list)  # who was asked, and what
    servers: dict[str, asyncio.Server] = field(default_factory=dict)
    dies: set[str] = field(default_factory=set)  # with the next request
    over: asyncio.Event = field(default_factory=asyncio.Event)
    busy: int = 0

    @property
    def port(self) -> int:
        return int(self.pool.listen[0].rpartition(":")[2])

    async def site(
        self, name: str, port: int = 0, *, takes_s: float = 0.0, answers: bool = True, says: bytes = b""
    ) -> str:
        """Its address. Its body is its name; without an answer it `says` something else and closes the connection."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.busy += 1
            try:
                self.heads.append((name, await reader.readuntil(b"\r\n\r\n")))
                if name in self.dies:
                    self.servers.pop(name).close()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.over.wait(), takes_s)
                if not answers:
                    writer.write(says)
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name.encode()))
            except asyncio.IncompleteReadError:
                pass
            finally:
                writer.close()
                self.busy -= 1

        self.servers[name] = await asyncio.start_server(serve, "127.0.0.1", port)
        return f"127.0.0.1:{self.servers[name].sockets[0].getsockname()[1]}"

    async def ask(self, host: str, path: str = "/", method: str = "GET", **fields: str) -> Response:
        return await ask(self.port, host, path, method, **fields)

    def asked(self, name: str) -> int:
        return sum(each == name for each, _ in self.heads)


@pytest.fixture
async def front(request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    """With what an indirect parameter says of its pool."""
    directory = tempfile.mkdtemp(prefix="fc-userlb-")  # short: a socket's path has 108 characters
    proxy, listen = free_port(), free_port()
    open_files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    pool = Pool(
        (f"127.0.0.1:{listen}",), (f"127.0.0.1:{proxy}",), (), directory,
        lanes=2, slots=2, connections_max=min(200, open_files_max // 3), lines_per_s=20,
    )  # fmt: skip
    pool = replace(pool, **getattr(request, "param", {}))
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
        front.over.set()
        async with asyncio.timeout(5):
            while front.busy:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        shutil.rmtree(directory)


def _write(pool: Pool) -> Path:
    for path in pool.maps:
        Path(path).touch()
    entrance.prepare(pool, time.time())
    file = Path(pool.configuration)
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


class World:
    def __init__(self, directory: Path, proxy: int, *, lanes: int = 2) -> None:
        open_files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        listen = free_port()
        self.settings = Settings(
            compute="here",
            run_dir=str(directory),
            log_dir=str(directory),
            userlb_listen=f"127.0.0.1:{listen}",
            userproxy_listen=f"127.0.0.1:{proxy}",
        )
        self.port = listen
        self.pool = Pool(
            (self.settings.userlb_listen,), (self.settings.userproxy_listen,), (), self.settings.userlb_dir,
            lanes=lanes, slots=2, connections_max=min(1000, open_files_max // 3),
        )  # fmt: skip
        self.runtime = Runtime(self.pool)
        self.store = MemoryStore()
        self.agent = FakeAgent(self.settings.agent_socket)
        self.userlb: UserLB

    async def start(self) -> None:
        """Again, too: the next controller."""
        self.store.down = False  # the one before closed it
        self.userlb = UserLB(self.settings, self.pool, open_store=lambda _: self.store)
        await self.userlb.start()

    async def site(self, app: str, handler: Handler | None = None, *domains: str, **policy: object) -> None:
        """Its body is its name, unless it has a handler."""
        spec = AppSpec(command=("/bin/true",), policy=Policy(**policy))  # type: ignore[arg-type]
        names = domains or (f"{app}.test",)
        await self.put(
            {keys.spec_key(app): msgspec.json.encode(spec)} | {keys.domain_key(n): app.encode() for n in names}
        )
        self.agent.site(app, handler or answering(text(app.encode())))

    async def warm(self, app: str, container: str = "1", *, within_s: float = 5.0) -> Live:
        """Runs, and has a lane."""
        live = await self.agent.run(app, container)

        async def has_a_slot() -> bool:
            actual = await self.runtime.read()
            opened = {id.lane for id, slot in actual.slots.items() if slot.address == live.address and slot.is_open}
            return bool(opened & {*actual.routes.values()})

        await wait_for(has_a_slot, within_s)
        return live

    async def routes(self) -> dict[str, str]:
        return {name: lane for name, lane in (await self.runtime.read()).routes.items() if lane != COLD}

    async def put(self, values: dict[str, bytes | None]) -> None:
        operations = [Delete(key) if value is None else Put(key, value) for key, value in values.items()]
        await self.store.commit([], operations)

    async def ask(self, host: str, path: str = "/", method: str = "GET", **fields: str) -> Response:
        return await ask(self.port, host, path, method, **fields)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    directory = Path(tempfile.mkdtemp(prefix="fc-userlb-"))
    proxy = free_port()
    server = await asyncio.start_server(answering(text(b"proxy")), "127.0.0.1", proxy)
    world = World(directory, proxy)
    await world.agent.start()
    await world.start()
    try:
        yield world
    finally:
        await world.userlb.close(with_haproxy=True)
        await world.agent.close()
        server.close()
        shutil.rmtree(directory)
