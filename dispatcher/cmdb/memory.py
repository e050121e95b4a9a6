"""The store in memory: the verified fake. It passes the same conformance suite as etcd's, and fails on command.

    store = MemoryStore(clock=lambda: now)
    store.down = True            # every call raises Unavailable, open watches end
    store.lose_answer = True     # the next commit takes place and raises Unavailable
    store.compact()              # a watch from an older revision raises Compacted
    store.wipe()                 # the disk was lost: empty, and the revision begins anew

Leases expire by the injected clock: at any call, and within HEARTBEAT_S where a watch is open.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from dispatcher.cmdb.store import Batch, Compacted, Delete, Event, LeaseLost, Page, Put, Unavailable, Unchanged, Value

HEARTBEAT_S = 1.0


class _Lease:
    def __init__(self, ttl_s: int, expires: float) -> None:
        self.ttl_s = ttl_s
        self.expires = expires


class MemoryStore:
    def __init__(self, clock: Callable[[], float] = time.monotonic, page_keys: int = 1000) -> None:
        self._clock = clock
        self._page_keys = page_keys
        self._values: dict[str, Value] = {}
        self._lease_of: dict[str, int] = {}
        self._leases: dict[int, _Lease] = {}
        self._lease_count = 0
        self._history: list[Event] = []
        self._compacted = 0
        self._incarnation = 0  # of the disk; a watch ends with it
        self._changed = asyncio.Event()
        self._down = False
        self.lose_answer = False
        self.revision = 1

    @property
    def down(self) -> bool:
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._down = down
        self._wake_watches()

    def compact(self) -> None:
        self._compacted = self.revision
        self._history = [each for each in self._history if each.mod_revision == self.revision]  # as etcd does

    def wipe(self) -> None:
        self._values, self._lease_of, self._leases, self._history = {}, {}, {}, []
        self.revision, self._compacted = 1, 0
        self._incarnation += 1
        self._wake_watches()

    def expire(self) -> None:
        """Ends the leases whose time is over; every call and every heartbeat does it first."""
        now = self._clock()
        for lease in [lease for lease, each in self._leases.items() if each.expires <= now]:
            self._end_lease(lease)

    async def get(self, key: str) -> Value | None:
        self._answer()
        return self._values.get(key)

    async def list(self, prefix: str) -> list[tuple[str, Value]]:
        self._answer()
        return _select(self._values, prefix, "")

    async def pages(self, prefix: str, until: str = "") -> AsyncGenerator[Page]:
        self._answer()
        revision, items = self.revision, _select(self._values, prefix, until)
        for first in range(0, len(items) or 1, self._page_keys):
            yield Page(revision, items[first : first + self._page_keys])
            await asyncio.sleep(0)
            self._answer()
            if revision < self._compacted:
                raise Compacted(f"nothing before revision {self._compacted} is kept")

    async def watch(self, prefix: str, from_revision: int, until: str = "") -> AsyncGenerator[Batch]:
        self._answer()
        incarnation, revision = self._incarnation, from_revision
        if self.revision < from_revision - 1:
            raise Compacted(f"the revision went backwards, from {from_revision - 1} to {self.revision}")
        yield Batch(self.revision, [])
        while True:
            self._answer()
            if incarnation != self._incarnation:
                raise Unavailable("the store was restarted")
            if revision < self._compacted:
                raise Compacted(f"nothing before revision {self._compacted} is kept")
            events = [each for each in self._history if each.mod_revision >= revision]
            revision = max(revision, self.revision + 1)
            if events := [each for each in events if _in_range(each.key, prefix, until)]:
                yield Batch(events[-1].mod_revision, events)
                continue
            changed = self._changed
            try:
                await asyncio.wait_for(changed.wait(), HEARTBEAT_S)
            except TimeoutError:
                self._answer()
                yield Batch(self.revision, [])

    async def commit(self, when: Sequence[Unchanged], then: Sequence[Put | Delete]) -> int | None:
        self._answer()
        assert len(when) <= 128 and len(then) <= 128
        for key, mod_revision in when:
            value = self._values.get(key)
            if (value.mod_revision if value else 0) != mod_revision:
                return None
        if len({each.key for each in then}) < len(then):
            raise ValueError("a key stands twice in one transaction")
        if any(isinstance(each, Put) and each.lease and each.lease not in self._leases for each in then):
            raise LeaseLost("no such lease")
        self._write(then)
        if self.lose_answer:
            self.lose_answer = False
            raise Unavailable("the answer was lost")
        return self.revision

    async def grant(self, ttl_s: int) -> int:
        self._answer()
        self._lease_count += 1
        self._leases[self._lease_count] = _Lease(ttl_s, self._clock() + ttl_s)
        return self._lease_count

    async def keep_alive(self, lease: int) -> bool:
        self._answer()
        if lease not in self._leases:
            return False
        self._leases[lease].expires = self._clock() + self._leases[lease].ttl_s
        return True

    async def revoke(self, lease: int) -> None:
        self._answer()
        self._end_lease(lease)

    async def close(self) -> None:
        self.down = True

    def _answer(self) -> None:
        if self._down:
            raise Unavailable("the store is down")
        self.expire()

    def _wake_watches(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _write(self, then: Sequence[Put | Delete]) -> None:
        revision, events = self.revision + 1, list[Event]()
        for each in then:
            if isinstance(each, Put):
                self._values[each.key] = Value(each.value, revision)
                self._lease_of[each.key] = each.lease
                events.append(Event(each.key, each.value, revision))
            elif each.key in self._values:
                del self._values[each.key], self._lease_of[each.key]
                events.append(Event(each.key, None, revision))
        if events:
            self.revision = revision
            self._history += events
            self._wake_watches()

    def _end_lease(self, lease: int) -> None:
        if self._leases.pop(lease, None):
            self._write([Delete(key) for key, held in self._lease_of.items() if held == lease])


def _select(values: Mapping[str, Value], prefix: str, until: str) -> list[tuple[str, Value]]:
    return sorted((key, value) for key, value in values.items() if _in_range(key, prefix, until))


def _in_range(key: str, prefix: str, until: str) -> bool:
    return prefix <= key < until if until else key.startswith(prefix)
