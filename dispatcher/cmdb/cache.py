"""CMCache: a copy of the configuration that the store's watch keeps up to date, so that no request ever waits for the CMDB.

    cache = CMCache(store)
    cache.on_change(lambda change: ...)
    await cache.start(timeout_s=10)
    app = cache.app_for("blog.example.com")

While the store is down the copy stays and serves. It is never emptied: after a reload it is replaced, by difference. A value that
breaks a rule changes nothing; the last good one stays in force and `on_refused` hears of it, once for each time it was written.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

import msgspec

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.keys import Key
from dispatcher.cmdb.rows import Rows
from dispatcher.cmdb.store import Batch, Compacted, Event, Store, Unavailable
from dispatcher.domain import App, ComputeRow, ContainerRow
from dispatcher.tasks import Tasks

BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.1, 3.0
HEALTHY_S = 10.0  # a watch that lived so long starts the back-off anew
SLICE_EVENTS = 2_000  # taken in before the loop gets its turn
DECODED_MAX = 20_000  # apps whose decoded form is kept

_log = logging.getLogger(__name__)


class Change(msgspec.Struct, frozen=True):
    """Of what is in force. Nothing is said about what the first load finds."""

    key: Key
    deleted: bool = False


OnChange = Callable[[Change], None]
OnRefused = Callable[[str, str, str], None]


class CMCache:
    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._tasks = Tasks()
        self._following: asyncio.Task[None] | None = None
        self._rows = Rows()
        self._loaded = asyncio.Event()
        self._stale = True  # what we hold cannot be continued by a watch: load
        self._heard = clock()
        self._on_change: list[OnChange] = []
        self._on_refused: list[OnRefused] = []
        self._apps: _Recent[App] = _Recent(DECODED_MAX)
        self._containers: _Recent[dict[str, ContainerRow]] = _Recent(DECODED_MAX)
        self._computes: dict[str, ComputeRow] | None = None
        self.revision = 0
        self.connected = False
        self.loads = 0
        self.reconnects = 0
        self.events = 0
        self.refusals = 0

    async def start(self, timeout_s: float | None = None) -> None:
        """Returns when loaded. After the TimeoutError it goes on trying in the background; call it again, or close."""
        if self._following is None:
            self._following = self._tasks.start(self._run(), name="cmcache")
        async with asyncio.timeout(timeout_s):
            await self._loaded.wait()

    async def close(self) -> None:
        await self._tasks.close()

    def on_change(self, callback: OnChange) -> None:
        self._on_change.append(callback)

    def on_refused(self, callback: OnRefused) -> None:
        """`callback(key, value, rule)`."""
        self._on_refused.append(callback)

    @property
    def size(self) -> int:
        """Keys in force."""
        return len(self._rows)

    def age_s(self, now: float) -> float:
        """Since the store last answered; `now` by the same clock (time.monotonic unless another one was given)."""
        return max(0.0, now - self._heard)

    def apps(self) -> Iterator[str]:
        return iter(self._rows.specs)

    def has_spec(self, app: str) -> bool:
        """Valid or not: an app whose spec breaks a rule is not gone."""
        return app in self._rows.specs or keys.spec_key(app) in self._rows.refused

    def is_refused(self, key: str) -> bool:
        """A bad value stands there. What was good before is in force, if this copy was there to see it."""
        return key in self._rows.refused

    def app_for(self, host: str) -> str | None:
        """The exact domain's app, else that of the nearest wildcard above. `host` as domain.check_domain wants it."""
        domains = self._rows.domains
        found = domains.get(host)
        if found is not None or len(host) > 253:
            return found
        dot = host.find(".")
        while dot >= 0:
            found = domains.get("*" + host[dot:])
            if found is not None:
                return found
            dot = host.find(".", dot + 1)
        return None

    def domains(self) -> Mapping[str, str]:
        """App by domain, wildcards as they are written. Shared: not to be changed."""
        return self._rows.domains

    def app(self, name: str) -> App | None:
        """Its effective values; None if there is no such app, or it never had a valid spec."""
        app = self._apps.get(name)
        if app is None and (spec := self._rows.specs.get(name)) is not None:
            try:
                app = codec.assemble(name, codec.decode_spec(name, spec), self._rows.words(name))
            except codec.Refused as refused:  # found by the load, which does not look inside
                self._refuse(keys.SpecKey(name), spec, refused)
                return None
            self._apps.put(name, app)
        return app

    def containers(self, app: str) -> dict[str, ContainerRow]:
        """Its rows by id. Shared: not to be changed."""
        rows = self._containers.get(app)
        if rows is None:
            rows = {}
            for container, value in self._rows.containers(app).items():
                try:
                    rows[container] = codec.decode_container(app, container, value)
                except codec.Refused as refused:
                    self._refuse(keys.ContainerKey(app, container), value, refused)
            self._containers.put(app, rows)
        return rows

    def computes(self) -> dict[str, ComputeRow]:
        """Those whose lease lives. Shared: not to be changed."""
        if self._computes is None:
            self._computes = {name: codec.decode_compute(name, value) for name, value in self._rows.computes.items()}
        return self._computes

    # Following the store

    async def _run(self) -> None:
        backoff = BACKOFF_FIRST_S
        while True:
            began = self._clock()
            try:
                if self._stale:
                    await self._load()
                await self._follow()
            except Compacted as error:
                self._stale = True
                _log.info("cmcache loads again: %s", str(error))
            except Unavailable as error:
                if (
                    self.connected or self.reconnects == 0
                ):  # as text: a log record that keeps the error would keep the channel
                    _log.warning("cmcache lost the CMDB and serves what it knows: %s", str(error))
            self.connected = False
            self.reconnects += 1
            if self._clock() - began > HEALTHY_S:
                backoff = BACKOFF_FIRST_S
            await asyncio.sleep(backoff * random.uniform(0.5, 1.5))
            backoff = min(backoff * 2, BACKOFF_MAX_S)

    async def _follow(self) -> None:
        watch = self._store.watch(keys.CONFIGURATION, self.revision + 1, until=keys.CONFIGURATION_END)
        async with contextlib.aclosing(watch) as batches:
            async for batch in batches:
                self.connected = True
                self._heard = self._clock()
                await self._take(batch)

    async def _take(self, batch: Batch) -> None:
        for count, event in enumerate(batch.events, 1):
            self._apply(event)
            if count % SLICE_EVENTS == 0:
                await asyncio.sleep(0)

    def _apply(self, event: Event) -> None:
        self.events += 1
        self.revision = event.mod_revision
        self._rows.refused.pop(event.key, None)
        try:
            key = keys.parse(event.key)
        except ValueError as error:
            if event.value is not None:
                self._rows.refused[event.key] = event.value
                self._tell_refused(codec.Refused(event.key, codec.shown(event.value), str(error)))
            return
        if event.value is None:
            self._rows.delete(key)
        else:
            try:
                codec.check(key, event.value)
            except codec.Refused as refused:
                self._rows.refused[event.key] = event.value
                self._tell_refused(refused)
                return
            self._rows.put(key, event.value)
        self._tell(Change(key, event.value is None))

    async def _load(self) -> None:
        loading = _Loading(self._rows, lazily=not self._loaded.is_set())
        revision = 0
        pages = self._store.pages(keys.CONFIGURATION, until=keys.CONFIGURATION_END)
        async with contextlib.aclosing(pages) as snapshot:
            async for page in snapshot:
                for text, value in page.items:
                    loading.take(text, value.value)
                revision = page.revision
        await loading.finish()
        self._rows, self.revision, self._stale = loading.rows, revision, False
        self._heard = self._clock()
        self.loads += 1
        self._apps.clear()
        self._containers.clear()
        self._computes = None
        for refused in loading.refusals:
            self._tell_refused(refused)
        if self._loaded.is_set():
            for count, change in enumerate(loading.changes, 1):
                self._tell(change)
                if count % SLICE_EVENTS == 0:
                    await asyncio.sleep(0)
        self._loaded.set()

    def _refuse(self, key: Key, value: bytes, refused: codec.Refused) -> None:
        self._rows.delete(key)
        self._rows.refused[refused.key] = value
        self._tell_refused(refused)

    def _tell(self, change: Change) -> None:
        match change.key:
            case keys.SpecKey(app) | keys.WordKey(app, _):
                self._apps.drop(app)
            case keys.ContainerKey(app, _):
                self._containers.drop(app)
            case keys.ComputeKey():
                self._computes = None
        for callback in self._on_change:
            try:
                callback(change)
            except Exception:  # noqa: BLE001  the border to somebody else's code; following must go on
                _log.exception("a listener failed at the change of %s", keys.text(change.key))

    def _tell_refused(self, refused: codec.Refused) -> None:
        self.refusals += 1
        for callback in self._on_refused:
            try:
                callback(refused.key, refused.value, refused.rule)
            except Exception:  # noqa: BLE001  the border to somebody else's code; following must go on
                _log.exception("a listener failed at the refusal of %s", refused.key)


class _Loading:
    """A new copy made from a snapshot beside the old one, sharing the values that did not change.

    `lazily`, at the first load, the JSON of apps and containers is not looked into until it is asked for.
    """

    def __init__(self, old: Rows, *, lazily: bool) -> None:
        self._old = old
        self._lazily = lazily
        self.rows = Rows()
        self.changes: list[Change] = []
        self.refusals: list[codec.Refused] = []

    def take(self, text: str, value: bytes) -> None:
        try:
            key = keys.parse(text)
        except ValueError as error:
            self._refuse(text, value, codec.Refused(text, codec.shown(value), str(error)))
            return
        if self._lazily and isinstance(key, keys.SpecKey | keys.ContainerKey):
            self.rows.put(key, value)
            return
        in_force = self._old.get(key)
        if in_force is not None and in_force in (value, value.strip()):
            self.rows.put(key, in_force)
            return
        try:
            codec.check(key, value)
        except codec.Refused as refused:
            if in_force is not None:
                self.rows.put(key, in_force)
            self._refuse(text, value, refused)
            return
        self.rows.put(key, value)
        self.changes.append(Change(key))

    def _refuse(self, text: str, value: bytes, refused: codec.Refused) -> None:
        self.rows.refused[text] = value
        if self._old.refused.get(text) != value:
            self.refusals.append(refused)

    async def finish(self) -> None:
        for count, key in enumerate(self._old, 1):
            if self.rows.get(key) is None:
                self.changes.append(Change(key, deleted=True))
            if count % SLICE_EVENTS == 0:
                await asyncio.sleep(0)


class _Recent[V]:
    """The newest `limit` values by name."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[str, V] = OrderedDict()

    def get(self, name: str) -> V | None:
        return self._values.get(name)

    def put(self, name: str, value: V) -> None:
        self._values[name] = value
        if len(self._values) > self._limit:
            self._values.popitem(last=False)

    def drop(self, name: str) -> None:
        self._values.pop(name, None)

    def clear(self) -> None:
        self._values.clear()
