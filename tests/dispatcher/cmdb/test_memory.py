"""What only the fake can do: fail on command."""

import asyncio
import contextlib

import pytest

from dispatcher.cmdb.memory import MemoryStore
from dispatcher.cmdb.store import Compacted, Put, Unavailable


async def test_down_fails_calls_and_ends_watches_and_keeps_the_data() -> None:
    store = MemoryStore()
    await store.commit([], [Put("/a", b"1")])
    async with contextlib.aclosing(store.watch("/", 1)) as batches:
        await anext(batches)
        await anext(batches)
        store.down = True
        with pytest.raises(Unavailable):
            await asyncio.wait_for(anext(batches), 5)
    with pytest.raises(Unavailable):
        await store.commit([], [Put("/a", b"2")])
    store.down = False
    assert (await store.list("/"))[0][1].value == b"1"


async def test_lost_answer_is_a_commit_that_took_place() -> None:
    store = MemoryStore()
    store.lose_answer = True
    with pytest.raises(Unavailable):
        await store.commit([], [Put("/a", b"1")])
    assert await store.get("/a") is not None
    assert await store.commit([], [Put("/a", b"2")]) is not None


async def test_wipe_ends_watches_and_sends_the_revision_backwards() -> None:
    store = MemoryStore()
    for _ in range(5):
        await store.commit([], [Put("/a", b"1")])
    async with contextlib.aclosing(store.watch("/", 7)) as batches:
        await anext(batches)
        store.wipe()
        with pytest.raises(Unavailable):
            await asyncio.wait_for(anext(batches), 5)
    assert await store.list("/") == []
    with pytest.raises(Compacted):
        await anext(store.watch("/", 7))
