import asyncio
import contextlib

import pytest

from dispatcher.cmdb import registration
from dispatcher.cmdb.memory import MemoryStore
from dispatcher.cmdb.registration import Registration
from dispatcher.cmdb.store import Store, Unchanged

KEY = "/fastcontainer/computes/one"


async def until(store: Store, value: bytes | None) -> None:
    async with asyncio.timeout(20), contextlib.aclosing(store.watch(KEY, 1)) as batches:
        async for _ in batches:
            found = await store.get(KEY)
            if (found.value if found else None) == value:
                return


async def test_it_stands_while_its_writer_lives_and_goes_with_it(store: Store) -> None:
    registered = Registration(store, KEY)
    registered.start(b"1")
    await until(store, b"1")
    registered.update(b"2")
    await until(store, b"2")
    await registered.close()
    assert await store.get(KEY) is None


async def test_a_lost_lease_is_replaced(store: Store) -> None:
    registered = Registration(store, KEY, ttl_s=1)
    registered.start(b"1")
    await until(store, b"1")
    await store.revoke(registered.lease)
    await until(store, b"1")
    assert registered.grants == 2
    await registered.close()


async def test_an_update_that_finds_the_lease_lost_is_not_lost(store: Store) -> None:
    registered = Registration(store, KEY, ttl_s=3000)
    registered.start(b"1")
    await until(store, b"1")
    await store.revoke(registered.lease)
    registered.update(b"2")
    await until(store, b"2")
    await registered.close()


async def test_it_comes_back_after_an_outage_longer_than_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "RETRY_S", 0.01)
    now = 0.0
    store = MemoryStore(clock=lambda: now)
    registered = Registration(store, KEY, ttl_s=1)
    registered.start(b"1")
    await until(store, b"1")
    store.down = True
    registered.update(b"2")
    await asyncio.sleep(0)
    now = 100.0
    store.down = False
    await until(store, b"2")
    assert registered.grants == 2
    store.down = True
    await registered.close()


async def test_starting_again_takes_the_key_over_from_a_lease_that_still_lives(store: Store) -> None:
    old, new = Registration(store, KEY), Registration(store, KEY)
    old.start(b"old")
    await until(store, b"old")
    new.start(b"new")
    await until(store, b"new")
    await old.close()
    found = await store.get(KEY)
    assert found is not None and found.value == b"new"
    assert await store.commit([Unchanged(KEY, found.mod_revision)], []) is not None
    await new.close()
