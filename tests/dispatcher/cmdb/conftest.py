import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from dispatcher.cmdb.client import EtcdStore
from dispatcher.cmdb.memory import MemoryStore
from dispatcher.cmdb.store import Store
from dispatcher.settings import Settings
from tests.plugins.etcd import EtcdServer


class Lab:
    """A store, and what only its operator can do to it."""

    def __init__(self, store: Store, compact: Callable[[], None], elapse: Callable[[float], None]) -> None:
        self.store = store
        self.compact = compact
        self.elapse = elapse  # lets time pass for leases, where that can be ordered; a real etcd takes its own

    async def until_gone(self, key: str) -> None:
        deadline = time.monotonic() + 20
        while await self.store.get(key) is not None:
            assert time.monotonic() < deadline, f"{key} is still there"
            await asyncio.sleep(0.02)


def memory_lab() -> Lab:
    now = [0.0]
    store = MemoryStore(clock=lambda: now[0], page_keys=3)

    def elapse(seconds: float) -> None:
        now[0] += seconds

    return Lab(store, store.compact, elapse)


def etcd_lab(server: EtcdServer) -> Lab:
    def compact() -> None:
        server.ctl("compaction", str(server.revision()))

    return Lab(EtcdStore(Settings(etcd=(server.endpoint,))), compact, lambda seconds: None)


@pytest.fixture(params=["memory", "etcd"])
async def lab(request: pytest.FixtureRequest, _shared_etcd: EtcdServer) -> AsyncIterator[Lab]:
    # The server is asked for by both, since what a session's fixture starts inside a test would count as that test's leak.
    lab = memory_lab() if request.param == "memory" else etcd_lab(request.getfixturevalue("etcd"))
    yield lab
    await lab.store.close()


@pytest.fixture
def store(lab: Lab) -> Store:
    return lab.store
