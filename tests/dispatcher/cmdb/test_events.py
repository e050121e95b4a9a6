import asyncio

import pytest

from dispatcher.cmdb import events, keys
from dispatcher.cmdb.events import KEPT_MAX, LEASE_SHARED_S, LEASE_TTL_S, TRIM_EVERY, EventLog, read_events
from dispatcher.cmdb.memory import MemoryStore
from dispatcher.cmdb.store import Put, Store
from dispatcher.domain import EventRow


def row(number: int) -> EventRow:
    return EventRow(at=1_700_000_000 + number, kind="started", message=f"number {number}")


async def test_events_come_back_in_order_with_their_compute(store: Store) -> None:
    log = EventLog(store, "one")
    for number in (1, 2, 3):
        log.record("blog", row(number))
    log.record("other", row(9))
    await log.flush()
    found = await read_events(store, "blog", 2)
    assert [each.message for each in found] == ["number 2", "number 3"]
    assert {each.compute for each in found} == {"one"}
    assert log.written == 4
    await log.close()


async def test_only_the_newest_are_kept(store: Store) -> None:
    log = EventLog(store, "one")
    for number in range(KEPT_MAX * 2):
        log.record("blog", row(number))
    await log.flush()
    found = await read_events(store, "blog", 10_000)
    assert KEPT_MAX <= len(found) < KEPT_MAX + TRIM_EVERY
    assert found[-1].message == f"number {KEPT_MAX * 2 - 1}"
    await log.close()


async def test_nothing_is_lost_or_doubled_by_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "RETRY_S", 0.01)
    store = MemoryStore()
    store.down = True
    log = EventLog(store, "one")
    for number in range(150):
        log.record("blog", row(number))
    await asyncio.sleep(0.03)
    store.down = False
    store.lose_answer = True
    await log.flush()
    assert [each.message for each in await read_events(store, "blog")] == [f"number {n}" for n in range(150)]
    await log.close()


async def test_a_full_queue_drops_the_oldest_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUEUE_MAX", 3)
    monkeypatch.setattr(events, "CLOSE_S", 0.01)
    store = MemoryStore()
    log = EventLog(store, "one")
    for number in range(5):
        log.record("blog", row(number))
    assert log.dropped == 2
    await log.flush()
    assert [each.message for each in await read_events(store, "blog")] == ["number 2", "number 3", "number 4"]
    store.down = True
    log.record("blog", row(6))
    await log.close()


async def test_an_hour_shares_one_lease_and_it_ends() -> None:
    now = 0.0
    store = MemoryStore(clock=lambda: now)
    log = EventLog(store, "one", clock=lambda: now)
    for hour in range(3):
        now = hour * (LEASE_SHARED_S + 1)
        for number in range(5):
            log.record("blog", row(hour * 10 + number))
            await log.flush()
    assert await store.grant(1) == 4
    now = LEASE_TTL_S + 1
    assert len(await read_events(store, "blog")) == 10
    now += 3 * LEASE_SHARED_S
    assert await read_events(store, "blog") == []
    await log.close()


async def test_a_lost_lease_costs_no_event() -> None:
    now = 0.0
    store = MemoryStore(clock=lambda: now)
    log = EventLog(store, "one", clock=lambda: 0.0)
    log.record("blog", row(1))
    await log.flush()
    now = LEASE_TTL_S + 1
    log.record("blog", row(2))
    await log.flush()
    assert [each.message for each in await read_events(store, "blog")] == ["number 2"]
    await log.close()


async def test_what_does_not_parse_is_passed_over(store: Store) -> None:
    await store.commit([], [Put(keys.event_key("blog", "1"), b"by hand")])
    assert await read_events(store, "blog") == []
