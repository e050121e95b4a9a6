"""Both stores: what the service does must not depend on which one."""

from collections.abc import AsyncIterator

import pytest

from dispatcher.cmdb.client import EtcdStore
from dispatcher.cmdb.memory import MemoryStore
from dispatcher.cmdb.store import Store
from dispatcher.settings import Settings
from tests.plugins.etcd import EtcdServer


@pytest.fixture(params=["memory", "etcd"])
async def store(request: pytest.FixtureRequest, _shared_etcd: EtcdServer) -> AsyncIterator[Store]:
    # The server is asked for by both, since what a session's fixture starts inside a test would count as that test's leak.
    made: Store
    endpoint = _shared_etcd.endpoint if request.param == "memory" else request.getfixturevalue("etcd").endpoint
    made = MemoryStore() if request.param == "memory" else EtcdStore(Settings(etcd=(endpoint,)))
    yield made
    await made.close()
