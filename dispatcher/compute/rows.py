"""The rows of this Compute's containers, as they should be, written behind.

What the agent decides counts at once, here; the CMDB follows as soon as it answers, and whatever it holds then is compared by
mod_revision. So with the CMDB down everything goes on, and afterwards its rows equal the agent's truth.
"""

import asyncio
import logging
import random

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.cache import CMCache
from dispatcher.cmdb.store import Delete, Put, Store, Unavailable, Unchanged
from dispatcher.domain import ContainerRow
from dispatcher.tasks import Tasks

RETRY_S = 0.5
GATHER_S = 0.05  # a quick start is one write instead of two, and none while somebody waits for it
Row = tuple[str, str]  # app, container id
_log = logging.getLogger(__name__)


class Rows:
    def __init__(self, store: Store, cache: CMCache, tasks: Tasks) -> None:
        self._store = store
        self._cache = cache
        self._tasks = tasks
        self._wanted: dict[str, dict[str, ContainerRow | None]] = {}  # by app; kept until the cache has it
        self._written: dict[Row, int] = {}  # revision at which what is wanted was written
        self._dirty: dict[Row, None] = {}
        self._wake = asyncio.Event()

    def start(self) -> None:
        self._tasks.start(self._write_all(), name="rows")

    def of(self, app: str) -> dict[str, ContainerRow]:
        """All containers of an app, those of other Computes as the CMDB tells."""
        rows = dict(self._cache.containers(app))
        wanted = self._wanted.get(app, {})
        for id, row in list(wanted.items()):
            if (revision := self._written.get((app, id))) and self._cache.revision >= revision:
                del wanted[id], self._written[app, id]
            elif row is None:
                rows.pop(id, None)
            else:
                rows[id] = row
        if not wanted:
            self._wanted.pop(app, None)
        return rows

    def put(self, app: str, id: str, row: ContainerRow | None) -> None:
        self._wanted.setdefault(app, {})[id] = row
        self._written.pop((app, id), None)
        self._dirty[app, id] = None
        self._wake.set()

    @property
    def behind(self) -> int:
        """Rows that the CMDB does not have yet as they are."""
        return len(self._dirty)

    async def flush(self) -> None:
        """Raises Unavailable; returns when all is written."""
        while self._dirty:
            await self._write(next(iter(self._dirty)))

    async def _write_all(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            self._wake.clear()
            try:
                await self.flush()
            except Unavailable as error:
                _log.debug("rows wait for the CMDB: %s", error)
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.5))
                self._wake.set()

    async def _write(self, name: Row) -> None:
        app, id = name
        row = self._wanted[app][id]
        key = keys.container_key(*name)
        found = await self._store.get(key)
        value = None if row is None else codec.encode(row)
        if found and found.value == value:  # written before, but the answer was lost: the cache need not have it yet
            revision: int | None = found.mod_revision
        else:
            # A row that is not there is taken away all the same, for the revision since when it is not.
            operation = Delete(key) if value is None else Put(key, value)
            revision = await self._store.commit([Unchanged(key, found.mod_revision if found else 0)], [operation])
        if revision is not None and self._wanted[app][id] == row:
            self._written[name] = revision
            self._dirty.pop(name, None)
