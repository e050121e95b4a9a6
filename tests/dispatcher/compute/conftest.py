"""An agent with real lives over a Runtime without a kernel, a CMDB in memory, and proxies on a real socket."""

import asyncio
import contextlib
import os
import pwd
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from containerlib import images
from containerlib.readiness import ListenEvents
from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.cache import CMCache
from dispatcher.cmdb.events import read_events
from dispatcher.cmdb.memory import MemoryStore
from dispatcher.cmdb.store import Delete, Put
from dispatcher.compute import agent as agent_module
from dispatcher.compute import lives as lives_module
from dispatcher.compute import rows as rows_module
from dispatcher.compute.agent import Agent
from dispatcher.compute.definitions import Shelf
from dispatcher.compute.helper import Helper
from dispatcher.compute.journal import Journal
from dispatcher.compute.life import Life
from dispatcher.compute.lives import Lives
from dispatcher.compute.pool import Pool
from dispatcher.compute.protocol import Answer, Live, Refused
from dispatcher.compute.restored import Keeper
from dispatcher.compute.roots import Roots
from dispatcher.coreapi import service
from dispatcher.domain import AppSpec, ContainerRow, EventRow, Policy, Status
from dispatcher.settings import Settings
from dispatcher.tasks import Tasks
from tests.fakes.runtime import FakeContainer, FakeRuntime
from tests.plugins.compute import Proxy, until

DEFAULT = Policy()


class Compute:
    def __init__(self, directory: Path) -> None:
        self.settings = Settings(
            compute="here",
            run_dir=str(directory),
            definition_dir=str(directory / "definitions"),
            log_dir=str(directory / "log"),
            proxy_user=pwd.getpwuid(os.getuid()).pw_name,
            blanks=2,
        )
        self.images = images.Store(directory / "images")
        self.store = MemoryStore()
        self.runtime = FakeRuntime()
        self.proxies: list[Proxy] = []
        self.agent: Agent
        self.is_up = False

    async def start(self) -> None:
        """As Daemon.run composes it."""
        self.tasks, self.cache = Tasks(), CMCache(self.store)
        self.journal = Journal(Path(self.settings.run_dir, "journal"))
        records = self.journal.open()
        self.roots = Roots(self.images, Path(self.settings.run_dir))
        self.shelf = Shelf(Path(self.settings.definition_dir))
        self.agent = Agent(self.settings, self.store, self.cache, self.tasks, self.roots, self.shelf)
        self.pool = Pool(self.runtime, self.settings.blanks, self.tasks)  # type: ignore[arg-type]
        self.lives = Lives(
            self.runtime,  # type: ignore[arg-type]
            self.pool, ListenEvents("never-opened"), self.journal, Path(self.settings.log_dir), self.tasks, self.agent, self.roots,
            self.shelf, Helper(self.tasks),
            Keeper(self.runtime, Path(self.settings.state_dir) / "checkpoints"),  # type: ignore[arg-type]
        )  # fmt: skip
        self.agent.lives = self.lives
        for record in records:
            if not await self.lives.adopt(record):
                self.journal.write(msgspec.structs.replace(record, gone=True))
        self.pool.start()
        self.agent.start()
        await self.agent.reception.start()
        self.is_up = True

    async def stop(self) -> None:
        """Its process ends; its containers live."""
        await self.agent.close()
        await self.tasks.close()
        await self.pool.close()
        await self.cache.close()
        for life in self.lives:
            if life.log and life.handle:
                asyncio.get_running_loop().remove_reader(life.handle.pidfd)
                life.log.close()
        self.journal.close()
        self.roots.close()
        for proxy in self.proxies:
            await proxy.close()
        self.proxies.clear()
        self.is_up = False

    async def close(self) -> None:
        if self.is_up:
            await self.stop()
        for container in list(self.runtime.containers.values()):
            await self.runtime.destroy(container)

    async def proxy(self, *, confirms: bool = True) -> Proxy:
        proxy = await Proxy.of(self.settings.agent_socket, confirms=confirms)
        self.proxies.append(proxy)
        return proxy

    # ---- the CMDB

    async def app(
        self, name: str = "blog", *, words: dict[str, str] | None = None, policy: Policy = DEFAULT, **spec: Any
    ) -> None:
        await service.create_app(
            self.store, name, AppSpec(command=("serve",), policy=policy, **spec), words=words, compute="here"
        )
        await until(lambda: self.cache.app(name))

    async def edit(self, name: str = "blog", **changed: Any) -> None:
        await service.edit_app(self.store, name, change=lambda spec: msgspec.structs.replace(spec, **changed))

    async def word(self, field: str, value: str | None, app: str = "blog") -> None:
        key = f"{keys.app_prefix(app)}{field}"
        await self.store.commit([], [Delete(key) if value is None else Put(key, value.encode())])

    def stored(self, app: str = "blog") -> dict[str, ContainerRow]:
        prefix = keys.containers_prefix(app)
        return {
            key.removeprefix(prefix): codec.decode_container(app, key.removeprefix(prefix), value.value)
            for key, value in self.store._values.items()
            if key.startswith(prefix)
        }

    def statuses(self, app: str = "blog") -> dict[str, str]:
        return {id: str(row.status) for id, row in self.stored(app).items()}

    async def events(self, app: str = "blog") -> list[EventRow]:
        await self.agent.history.flush()
        return await read_events(self.store, app)

    async def kinds(self, app: str = "blog") -> list[str]:
        return [event.kind for event in await self.events(app)]

    # ---- its containers

    def life(self, id: str = "1", app: str = "blog") -> Life:
        life = self.lives.get(app, id)
        assert life is not None
        return life

    def container(self, id: str = "1", app: str = "blog") -> FakeContainer:
        handle = self.life(id, app).handle
        assert isinstance(handle, FakeContainer)
        return handle

    async def wake(self, app: str = "blog", id: str = "1", proxy: Proxy | None = None) -> Live:
        answer = await (proxy or await self.proxy()).ensure(app, id)
        assert isinstance(answer, Answer), answer
        return answer.live

    async def refused(self, app: str = "blog", id: str = "1") -> Refused:
        answer = await (await self.proxy()).ensure(app, id)
        assert isinstance(answer, Refused), answer
        return answer

    def running(self, app: str = "blog") -> list[str]:
        return sorted(id for id, life in self.lives.of(app).items() if life.status is Status.RUNNING)


@pytest.fixture
async def compute(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Compute]:
    for module, name, value in (
        (agent_module, "TICK_S", 0.005),
        (agent_module, "RECHECK_S", 0.02),
        (lives_module, "ACK_S", 0.3),
        (lives_module, "REATTACH_S", 0.3),
        (rows_module, "RETRY_S", 0.01),
    ):
        monkeypatch.setattr(module, name, value)
    if os.getuid():
        monkeypatch.setattr(os, "chown", lambda *_: None)
    directory = Path(tempfile.mkdtemp(prefix="fc-"))
    compute = Compute(directory)
    try:
        await compute.start()
        yield compute
    finally:
        with contextlib.suppress(Exception):
            compute.store.down = False
        await compute.close()
        shutil.rmtree(directory)
