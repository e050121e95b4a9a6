"""A UserProxy in this process: real sockets in front, a fake agent behind, a memory-backed CMDB."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from addons.lean import Lean
from addons.proxybase import Proxy
from addons.userproxy import UserProxy
from dispatcher.cmdb import keys
from dispatcher.cmdb.memory import MemoryStore
from dispatcher.cmdb.store import Put
from dispatcher.domain import AppSpec, Front, Policy
from dispatcher.settings import Settings
from dispatcher.tasks import Tasks
from tests.fakes.agent import FakeAgent, Handler, Site
from tests.fakes.clients import Connection, Response, ask
from tests.fakes.ports import free_port


class World:
    def __init__(self, path: Path, port: int = 0, **settings: Any) -> None:
        self.path = path
        self.port, self.metrics_port = port or free_port(), free_port()
        self.settings = Settings(
            compute="here",
            run_dir=str(path),
            log_dir=str(path),
            userproxy_listen=f"127.0.0.1:{self.port}",
            userproxy_metrics=f"127.0.0.1:{self.metrics_port}",
            webdispatcher_listen=f"127.0.0.1:{self.port}",
            webdispatcher_metrics=f"127.0.0.1:{self.metrics_port}",
            **settings,
        )
        self.store = MemoryStore()
        self.tasks = Tasks()
        self.agent = FakeAgent(self.settings.agent_socket)
        self.proxy: Proxy = UserProxy(self.settings, open_store=lambda _: self.store)

    async def start(self) -> None:
        await self.agent.start()
        self.lean = Lean(self.proxy)
        self.tasks.start(self.lean.serve(), name="mitmproxy")
        async with asyncio.timeout(5):
            while not (  # noqa: ASYNC110
                self.lean.server.listen_addrs() and self.proxy._running and self.proxy.link.synced.is_set()
            ):
                await asyncio.sleep(0.005)
            await self.proxy.loaded.wait()

    async def close(self) -> None:
        for handler in list(self.lean.server.connections.values()):
            await handler.on_timeout()  # clients that a test left open
        await self.lean.stop()
        await self.tasks.close()
        await self.agent.close()

    async def site(
        self, app: str, handler: Handler, *, policy: Policy | None = None, front: Front | None = None, **options: Any
    ) -> Site:
        spec = AppSpec(command=("/bin/true",), policy=policy or Policy(), front=front or Front())
        await self.put(
            {keys.spec_key(app): msgspec.json.encode(spec), keys.domain_key(f"{app}.test"): app.encode()},
        )
        return self.agent.site(app, handler, **options)

    async def put(self, values: dict[str, bytes]) -> None:
        await self.store.commit([], [Put(key, value) for key, value in values.items()])
        async with asyncio.timeout(5):
            while self.proxy.cache.revision < (await self.store.get(next(iter(values)))).mod_revision:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def ask(self, host: str, path: str = "/", method: str = "GET", **fields: str) -> Response:
        return await ask(self.port, host, path, method, **fields)

    async def connect(self) -> Connection:
        return await Connection.open(self.port)

    def log(self) -> list[dict[str, Any]]:
        self.proxy.access_log.flush()
        path = self.path / "access/userproxy.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.start()
    yield world
    await world.close()
