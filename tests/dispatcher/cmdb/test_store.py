"""What dispatcher/cmdb/store.py promises, over both stores."""

import asyncio
import contextlib

import pytest

from dispatcher.cmdb.store import (
    Compacted,
    Delete,
    Event,
    LeaseLost,
    Put,
    Store,
    Unavailable,
    Unchanged,
    Value,
)
from tests.dispatcher.cmdb.conftest import Lab


async def put(store: Store, key: str, value: bytes = b"x", lease: int = 0) -> int:
    revision = await store.commit([], [Put(key, value, lease)])
    assert revision is not None
    return revision


async def events_of(store: Store, prefix: str, from_revision: int, count: int, until: str = "") -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(20), contextlib.aclosing(store.watch(prefix, from_revision, until)) as batches:
        async for batch in batches:
            events += batch.events
            if len(events) >= count:
                break
    return events


async def test_absent_key_is_none(store: Store) -> None:
    assert await store.get("/a") is None


async def test_put_then_get_gives_value_and_revision(store: Store) -> None:
    revision = await put(store, "/a", b"\0\xff")
    assert await store.get("/a") == Value(b"\0\xff", revision)
    assert await put(store, "/a", b"") == revision + 1
    assert await store.get("/a") == Value(b"", revision + 1)


async def test_list_is_in_key_order_and_stops_at_the_prefix(store: Store) -> None:
    for key in ("/b/2", "/b/10", "/b/1", "/a", "/c", "/b0", "/b"):
        await put(store, key)
    assert [key for key, _ in await store.list("/b/")] == ["/b/1", "/b/10", "/b/2"]
    assert [key for key, _ in await store.list("/nothing/")] == []


async def test_commit_takes_place_only_if_nothing_changed(store: Store) -> None:
    first = await store.commit([Unchanged("/a", 0)], [Put("/a", b"1")])
    assert first is not None
    assert await store.commit([Unchanged("/a", 0)], [Put("/a", b"2")]) is None
    assert await store.commit([Unchanged("/a", first), Unchanged("/b", 7)], [Put("/a", b"2")]) is None
    assert await store.get("/a") == Value(b"1", first)
    second = await store.commit([Unchanged("/a", first), Unchanged("/b", 0)], [Put("/a", b"2"), Put("/b", b"3")])
    assert second is not None
    assert await store.get("/a") == Value(b"2", second)
    assert await store.get("/b") == Value(b"3", second)
    assert await store.commit([Unchanged("/a", second)], [Delete("/a")]) is not None
    assert await store.get("/a") is None


async def test_deleting_what_is_absent_changes_nothing(store: Store) -> None:
    revision = await put(store, "/a")
    assert await store.commit([], [Delete("/b")]) == revision


async def test_commit_takes_128_operations(store: Store) -> None:
    assert await store.commit([], [Put(f"/many/{n:03}", b"x") for n in range(128)]) is not None
    assert len(await store.list("/many/")) == 128


async def test_a_key_may_not_stand_twice_in_a_commit(store: Store) -> None:
    with pytest.raises(ValueError, match=r"twice|duplicate"):
        await store.commit([], [Put("/a", b"1"), Put("/a", b"2")])
    assert await store.get("/a") is None


async def test_pages_are_one_snapshot(store: Store) -> None:
    for first in range(0, 4_100, 100):
        await store.commit([], [Put(f"/p/{n:05}", b"before") for n in range(first, first + 100)])
    seen: list[tuple[str, bytes]] = []
    revisions = set()
    async with contextlib.aclosing(store.pages("/p/")) as pages:
        async for page in pages:
            if not revisions:
                await store.commit([], [Put("/p/04099", b"after"), Delete("/p/04098"), Put("/p/09999", b"new")])
            revisions.add(page.revision)
            seen += [(key, value.value) for key, value in page.items]
    assert len(revisions) == 1
    assert seen == [(f"/p/{n:05}", b"before") for n in range(4_100)]


async def test_pages_of_nothing_still_tell_the_revision(store: Store) -> None:
    revision = await put(store, "/a")
    assert [page async for page in store.pages("/none/")] == [(revision, [])]


async def test_until_bounds_pages_and_watch(store: Store) -> None:
    revision = await put(store, "/b/1")
    for key in ("/a/1", "/c/1", "/d/1", "/d", "/b"):
        await put(store, key)
    found = [key async for page in store.pages("/b/", "/d/") for key, _ in page.items]
    assert found == ["/b/1", "/c/1", "/d"]
    assert [event.key for event in await events_of(store, "/b/", revision, 3, "/d/")] == ["/b/1", "/c/1", "/d"]


async def test_watch_replays_and_follows_in_order(store: Store) -> None:
    first = await put(store, "/w/a", b"1")
    await put(store, "/elsewhere", b"-")
    both = await store.commit([], [Put("/w/a", b"2"), Put("/w/b", b"3")])

    async def later() -> None:
        await store.commit([], [Delete("/w/a")])

    task = asyncio.get_running_loop().create_task(later())
    events = await events_of(store, "/w/", first, 4)
    await task
    assert events[:3] == [("/w/a", b"1", first), ("/w/a", b"2", both), ("/w/b", b"3", both)]
    assert (events[3].key, events[3].value) == ("/w/a", None)
    assert await events_of(store, "/w/", both or 0, 3) == events[1:]


async def test_watch_begins_with_a_heartbeat(store: Store) -> None:
    revision = await put(store, "/a")
    async with contextlib.aclosing(store.watch("/w/", revision + 1)) as batches:
        assert await anext(batches) == (revision, [])


async def test_batch_revision_is_that_of_its_last_event(store: Store) -> None:
    first = await put(store, "/w/a")
    for _ in range(50):
        await put(store, "/elsewhere")
    async with asyncio.timeout(10), contextlib.aclosing(store.watch("/w/", first)) as batches:
        async for batch in batches:
            if batch.events:
                assert batch.revision == first
                break


async def test_watch_of_what_was_compacted(lab: Lab) -> None:
    first = await put(lab.store, "/w/a")
    last = await put(lab.store, "/w/a")
    lab.compact()
    with pytest.raises(Compacted):
        await events_of(lab.store, "/w/", first, 2)
    assert await events_of(lab.store, "/w/", last, 1) == [("/w/a", b"x", last)]


async def test_watch_from_the_future_means_that_the_revision_went_backwards(store: Store) -> None:
    revision = await put(store, "/w/a")
    with pytest.raises(Compacted):
        await events_of(store, "/w/", revision + 5, 1)


async def test_revoked_lease_takes_its_keys_along(store: Store) -> None:
    lease = await store.grant(60)
    revision = await store.commit([], [Put("/l/a", b"x", lease), Put("/l/b", b"x", lease), Put("/l/c", b"x")])
    assert await store.keep_alive(lease)
    await store.revoke(lease)
    assert [key for key, _ in await store.list("/l/")] == ["/l/c"]
    events = await events_of(store, "/l/", (revision or 0) + 1, 2)
    assert [(event.key, event.value) for event in events] == [("/l/a", None), ("/l/b", None)]
    assert not await store.keep_alive(lease)
    await store.revoke(lease)


async def test_put_under_a_lost_lease_changes_nothing(store: Store) -> None:
    lease = await store.grant(60)
    await store.revoke(lease)
    with pytest.raises(LeaseLost):
        await store.commit([], [Put("/l/a", b"x"), Put("/l/b", b"x", lease)])
    assert await store.list("/l/") == []


async def test_expired_lease_is_lost(lab: Lab) -> None:
    lease = await lab.store.grant(1)
    await put(lab.store, "/l/a", lease=lease)
    lab.elapse(5)
    await lab.until_gone("/l/a")
    assert not await lab.store.keep_alive(lease)


async def test_kept_lease_lives_on(lab: Lab) -> None:
    lease = await lab.store.grant(3)
    await put(lab.store, "/l/a", lease=lease)
    lab.elapse(2)
    assert await lab.store.keep_alive(lease)
    lab.elapse(2)
    assert await lab.store.get("/l/a") is not None


async def test_the_newest_lease_of_a_key_counts(store: Store) -> None:
    old, new = await store.grant(60), await store.grant(60)
    await put(store, "/l/a", lease=old)
    await put(store, "/l/a", lease=new)
    await put(store, "/l/b", lease=old)
    await put(store, "/l/b")
    await store.revoke(old)
    assert [key for key, _ in await store.list("/l/")] == ["/l/a", "/l/b"]


async def test_closed_store_is_unavailable(store: Store) -> None:
    await put(store, "/a")
    await store.close()
    with pytest.raises(Unavailable):
        await store.get("/a")
