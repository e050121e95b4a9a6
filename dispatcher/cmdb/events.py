"""The history of each app, events/APP/ID: what happened and what was refused, for people to read.

Writing never makes anybody wait: events go into a bounded queue and from there to the CMDB in the background, for as long as
it takes. Each hour's events hang on one lease, and of each app only the newest are kept, so that a day of wakes does not fill etcd.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import Callable

import msgspec

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.store import Delete, LeaseLost, Put, Store, Unavailable
from dispatcher.domain import EventRow
from dispatcher.tasks import Tasks

LEASE_TTL_S = 48 * 3600
LEASE_SHARED_S = 3600.0
KEPT_MAX = 200  # newest of each app
TRIM_EVERY = 50  # events of one app between two looks at how many there are
QUEUE_MAX = 10_000
BATCH_MAX = 100
GATHER_S = 0.05  # a start and what follows from it are one write, and none while somebody waits for it
RETRY_S = 1.0
CLOSE_S = 2.0

_log = logging.getLogger(__name__)


class EventLog:
    """`compute` names the writer in each event's id, so that two hosts never write the same key."""

    def __init__(self, store: Store, compute: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._compute = compute
        self._clock = clock
        self._queue: deque[tuple[str, Put]] = deque()
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._numbers = itertools.count()
        self._tasks = Tasks()
        self._writer: asyncio.Task[None] | None = None
        self._lease = 0
        self._lease_since = 0.0
        self._since_trim: Counter[str] = Counter()
        self.dropped = 0  # queue full: the oldest went
        self.written = 0

    def record(self, app: str, row: EventRow) -> None:
        """In the running event loop."""
        if self._writer is None:
            self._writer = self._tasks.start(self._write_all(), name="event log")
        id = f"{int(row.at * 1000):015d}-{self._compute}-{next(self._numbers):06d}"
        row = row if row.compute else msgspec.structs.replace(row, compute=self._compute)
        if len(self._queue) >= QUEUE_MAX:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append((app, Put(keys.event_key(app, id), codec.encode(row))))
        self._idle.clear()
        self._wanted.set()

    async def flush(self) -> None:
        """Returns when all that was recorded is written."""
        await self._idle.wait()

    async def close(self) -> None:
        """Gives what is still queued a moment to be written."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.flush()
        await self._tasks.close()

    async def _write_all(self) -> None:
        while True:
            await self._wanted.wait()
            if len(self._queue) < BATCH_MAX:
                await asyncio.sleep(GATHER_S)
            try:
                await self._write_some()
            except LeaseLost:
                self._lease = 0
            except Unavailable as error:
                _log.debug("events wait for the CMDB: %s", str(error))
                await asyncio.sleep(RETRY_S)
            if not self._queue:
                self._wanted.clear()
                self._idle.set()

    async def _write_some(self) -> None:
        if not self._lease or self._clock() - self._lease_since > LEASE_SHARED_S:
            self._lease = await self._store.grant(LEASE_TTL_S)
            self._lease_since = self._clock()
        batch = list(itertools.islice(self._queue, BATCH_MAX))
        # Not known to have failed is repeated: the same keys, so nothing stands twice.
        await self._store.commit([], [put._replace(lease=self._lease) for _, put in batch])
        self.written += len(batch)
        for entry in batch:
            if self._queue and self._queue[0] is entry:  # a full queue may have dropped it meanwhile
                self._queue.popleft()
        for app in {app for app, _ in batch}:
            self._since_trim[app] += sum(each == app for each, _ in batch)
            if self._since_trim[app] >= TRIM_EVERY:
                await self._trim(app)
                del self._since_trim[app]

    async def _trim(self, app: str) -> None:
        items = await self._store.list(keys.events_prefix(app))
        old = [Delete(key) for key, _ in items[:-KEPT_MAX]]
        for first in range(0, len(old), BATCH_MAX):
            await self._store.commit([], old[first : first + BATCH_MAX])


async def read_events(store: Store, app: str, limit: int = KEPT_MAX) -> list[EventRow]:
    """The newest `limit`, oldest first."""
    rows = []
    for key, value in (await store.list(keys.events_prefix(app)))[-limit:]:
        with contextlib.suppress(codec.Refused):  # written by a later version, or by hand
            rows.append(codec.decode_event(app, key.rpartition("/")[2], value.value))
    return rows
