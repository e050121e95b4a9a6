"""Rows written behind: the agent's view counts at once, the CMDB follows."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.cache import CMCache
from dispatcher.cmdb.memory import MemoryStore
from dispatcher.cmdb.store import Put, Unavailable
from dispatcher.compute import rows as rows_module
from dispatcher.compute.rows import Rows
from dispatcher.domain import ContainerRow, Status
from dispatcher.tasks import Tasks
from tests.plugins.compute import until

KEY = keys.container_key("blog", "1")
ASLEEP = ContainerRow("here")
RUNNING = ContainerRow("here", Status.RUNNING, 1, local_address="100.96.0.2:80")


class Lab:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.cache = CMCache(self.store)
        self.tasks = Tasks()
        self.rows = Rows(self.store, self.cache, self.tasks)

    async def stored(self, key: str = KEY) -> ContainerRow | None:
        found = await self.store.get(key)
        return codec.decode_container("blog", "1", found.value) if found else None

    async def settle(self) -> None:
        """The CMDB has all, and the cache has it from there."""
        await until(lambda: not self.rows.behind)
        await until(lambda: self.cache.revision >= self.store.revision)

    async def put(self, row: ContainerRow, key: str = KEY) -> None:
        await self.store.commit([], [Put(key, codec.encode(row))])


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    monkeypatch.setattr(rows_module, "RETRY_S", 0.01)
    lab = Lab()
    await lab.cache.start()
    lab.rows.start()
    yield lab
    await lab.tasks.close()
    await lab.cache.close()


async def test_what_is_put_counts_at_once_and_is_written(lab: Lab) -> None:
    lab.rows.put("blog", "1", RUNNING)
    assert lab.rows.of("blog") == {"1": RUNNING}
    assert lab.rows.behind == 1
    await lab.settle()
    assert await lab.stored() == RUNNING
    assert lab.rows.of("blog") == {"1": RUNNING}


async def test_rows_of_other_computes_are_seen_beside_ours(lab: Lab) -> None:
    other = ContainerRow("there", Status.RUNNING, 4)
    await lab.put(other, keys.container_key("blog", "2"))
    lab.rows.put("blog", "1", RUNNING)
    await lab.settle()
    assert lab.rows.of("blog") == {"1": RUNNING, "2": other}
    assert lab.rows.of("shop") == {}


async def test_a_row_taken_away_is_gone_at_once_and_then_in_the_cmdb(lab: Lab) -> None:
    lab.rows.put("blog", "1", RUNNING)
    await lab.settle()
    lab.rows.put("blog", "1", None)
    assert lab.rows.of("blog") == {}
    await lab.settle()
    assert await lab.stored() is None
    assert lab.rows.of("blog") == {}


async def test_only_the_last_word_is_written(lab: Lab) -> None:
    revision = lab.store.revision
    for generation in range(10):
        lab.rows.put("blog", "1", ContainerRow("here", generation=generation))
    await lab.settle()
    assert lab.store.revision == revision + 1
    assert (await lab.stored()) == ContainerRow("here", generation=9)


async def test_while_the_cmdb_is_down_the_view_is_right_and_afterwards_it_has_caught_up(lab: Lab) -> None:
    await lab.put(ASLEEP)
    await lab.settle()
    lab.store.down = True
    lab.rows.put("blog", "1", RUNNING)
    lab.rows.put("blog", "2", RUNNING)
    lab.rows.put("blog", "2", None)
    lab.rows.put("blog", "3", ASLEEP)
    await asyncio.sleep(0.05)  # a few attempts
    assert lab.rows.of("blog") == {"1": RUNNING, "3": ASLEEP}
    assert lab.rows.behind == 3
    lab.store.down = False
    await lab.settle()
    await until(lambda: lab.cache.connected)
    assert lab.cache.containers("blog") == lab.rows.of("blog") == {"1": RUNNING, "3": ASLEEP}


async def test_somebody_elses_write_to_our_row_is_overwritten(lab: Lab) -> None:
    await lab.put(ASLEEP)
    await lab.settle()
    lab.store.down = True
    lab.rows.put("blog", "1", RUNNING)
    lab.store.down = False
    await lab.put(ContainerRow("there"))
    await lab.settle()
    assert await lab.stored() == RUNNING


class Racing(MemoryStore):
    """Somebody else is always a little faster, so many times."""

    lost = 0

    async def commit(self, when, then):  # type: ignore[no-untyped-def]
        if self.lost and any(put.key == KEY for put in then):
            self.lost -= 1
            await super().commit([], [Put(KEY, codec.encode(ContainerRow("there", generation=self.lost)))])
        return await super().commit(when, then)


async def test_a_writer_that_comes_between_is_read_again_and_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Racing()
    cache, tasks = CMCache(store), Tasks()
    await cache.start()
    rows = Rows(store, cache, tasks)
    rows.start()
    store.lost = 3
    rows.put("blog", "1", RUNNING)
    await until(lambda: not rows.behind)
    found = await store.get(KEY)
    assert found is not None
    assert codec.decode_container("blog", "1", found.value) == RUNNING
    await tasks.close()
    await cache.close()


class Lagging(CMCache):
    """Knows nothing newer than what it loaded."""

    async def _follow(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("wanted", [RUNNING, None])
async def test_a_write_whose_answer_was_lost_counts_until_the_cache_has_it(wanted: ContainerRow | None) -> None:
    store = MemoryStore()
    await store.commit([], [Put(KEY, codec.encode(ASLEEP))])
    cache, tasks = Lagging(store), Tasks()
    await cache.start()
    rows = Rows(store, cache, tasks)
    store.lose_answer = True
    rows.put("blog", "1", wanted)
    with pytest.raises(Unavailable):
        await rows.flush()
    assert rows.behind == 1
    await rows.flush()
    assert rows.behind == 0
    assert cache.containers("blog") == {"1": ASLEEP}
    assert rows.of("blog") == ({} if wanted is None else {"1": wanted})
    await cache.close()
