"""What the CMDB says about apps, containers and events, for people to look at. Reads the store itself, not a cache: a command runs
once. A value that does not parse is left out and told as refused; so the rest can still be seen."""

from collections.abc import Callable, Iterable

import msgspec

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.keys import Field
from dispatcher.cmdb.store import Store
from dispatcher.domain import App, ComputeRow, ContainerRow, EventRow, Scaling, Status, life_name
from dispatcher.problems import Code, Problem

EVENTS_SHOWN = 20

Items = Iterable[tuple[str, bytes]]


class Refusal(msgspec.Struct, frozen=True):
    """A value that stands in the CMDB and does not count."""

    key: str
    value: str
    rule: str


class Container(msgspec.Struct, frozen=True):
    app: str
    id: str
    row: ContainerRow

    @property
    def life(self) -> str:
        return life_name(self.app, self.id, self.row.generation)


class AppView(msgspec.Struct, frozen=True):
    name: str
    revision: int  # mod_revision of its spec
    app: App | None  # with its effective values; None while its spec does not parse
    words: dict[str, str]  # as people wrote them
    scaling: Scaling | None
    domains: list[str]
    containers: list[Container]
    refused: list[Refusal]
    events: list[EventRow]  # the newest last

    @property
    def last_failure(self) -> str:
        waiting = [each.row.reason for each in self.containers if each.row.status is Status.FAILED]
        return next(iter(waiting), "") or next(
            (each.message for each in reversed(self.events) if each.kind == "failed"), ""
        )


class AppSummary(msgspec.Struct, frozen=True):
    name: str
    app: App | None
    domains: list[str]
    alive: int


class _Reader:
    """Decodes, and collects what is refused."""

    def __init__(self) -> None:
        self.refused: list[Refusal] = []

    def read[T](self, decode: Callable[..., T], *arguments: object) -> T | None:
        try:
            return decode(*arguments)
        except codec.Refused as refused:
            self.refused.append(Refusal(refused.key, refused.value, refused.rule))
            return None

    def app(self, name: str, values: dict[str, bytes]) -> App | None:
        spec = self.read(codec.decode_spec, name, values["spec"])
        words = {Field(word): value for word, value in values.items() if word in Field}
        good = {f: value for f, value in words.items() if self._parses(name, f, value)}
        return None if spec is None else codec.assemble(name, spec, good)

    def _parses(self, name: str, field: Field, value: bytes) -> bool:
        count = len(self.refused)
        self.read(codec.parse_word, name, field, value)
        return len(self.refused) == count

    def containers(self, items: Items) -> list[Container]:
        """In order of app and number."""
        found = []
        for key, value in items:
            app, id = key.removeprefix(keys.CONTAINERS).split("/", 1)
            row = self.read(codec.decode_container, app, id, value)
            if row is not None:
                found.append(Container(app, id, row))
        return sorted(found, key=lambda each: (each.app, len(each.id), each.id))


def unknown_app(name: str) -> Problem:
    return Problem(Code.UNKNOWN_APP, f"there is no app {name!r}", hint="those that exist: fastcontainer app list")


async def show_app(store: Store, name: str) -> AppView:
    found = dict(await store.list(keys.app_prefix(name)))
    values = {key.rpartition("/")[2]: value.value for key, value in found.items()}
    if "spec" not in values:
        raise unknown_app(name)
    reader = _Reader()
    app = reader.app(name, values)
    scaling = reader.read(codec.parse_word, name, Field.SCALING, values["scaling"]) if "scaling" in values else None
    return AppView(
        name=name,
        revision=found[keys.spec_key(name)].mod_revision,
        app=app,
        words={word: codec.shown(value) for word, value in values.items() if word not in ("spec", Field.SCALING)},
        scaling=scaling if isinstance(scaling, Scaling) else None,
        domains=await domains_of(store, name),
        containers=reader.containers(await _items(store, keys.containers_prefix(name))),
        refused=list(dict.fromkeys(reader.refused)),
        events=[event for _, event in (await list_events(store, name))[-EVENTS_SHOWN:]],
    )


async def list_apps(store: Store) -> list[AppSummary]:
    apps: dict[str, dict[str, bytes]] = {}
    for key, value in await _items(store, keys.APPS):
        name, _, word = key.removeprefix(keys.APPS).partition("/")
        apps.setdefault(name, {})[word] = value
    domains: dict[str, list[str]] = {}
    for key, value in await _items(store, keys.DOMAINS):
        domains.setdefault(text_of(value), []).append(key.removeprefix(keys.DOMAINS))
    reader = _Reader()
    alive: dict[str, int] = {}
    for each in reader.containers(await _items(store, keys.CONTAINERS)):
        alive[each.app] = alive.get(each.app, 0) + each.row.status.is_alive()
    return [
        AppSummary(name, reader.app(name, values), domains.get(name, []), alive.get(name, 0))
        for name, values in apps.items()
        if "spec" in values
    ]


async def list_containers(store: Store, app: str = "") -> list[Container]:
    return _Reader().containers(await _items(store, keys.containers_prefix(app) if app else keys.CONTAINERS))


async def list_computes(store: Store) -> dict[str, ComputeRow]:
    reader = _Reader()
    names = {key.removeprefix(keys.COMPUTES): value for key, value in await _items(store, keys.COMPUTES)}
    rows = {name: reader.read(codec.decode_compute, name, value) for name, value in names.items()}
    return {name: row for name, row in rows.items() if row is not None}


async def list_events(store: Store, app: str = "") -> list[tuple[str, EventRow]]:
    """Apps' names with their events, the newest last."""
    found = [
        event_of(key, value) for key, value in await _items(store, keys.events_prefix(app) if app else keys.EVENTS)
    ]
    return sorted((each for each in found if each is not None), key=lambda each: each[1].at)


def event_of(key: str, value: bytes) -> tuple[str, EventRow] | None:
    app, _, id = key.removeprefix(keys.EVENTS).partition("/")
    event = _Reader().read(codec.decode_event, app, id, value)
    return None if event is None else (app, event)


async def domains_of(store: Store, app: str) -> list[str]:
    """Reads all domains, page by page: the CMDB knows them by name only."""
    found = []
    async for page in store.pages(keys.DOMAINS):
        found += [key.removeprefix(keys.DOMAINS) for key, value in page.items if text_of(value.value) == app]
    return found


def text_of(value: bytes) -> str:
    """Of a key that holds one plain word, with or without the newline that `echo | etcdctl put` leaves."""
    return value.decode(errors="replace").strip()


async def _items(store: Store, prefix: str) -> list[tuple[str, bytes]]:
    return [(key, value.value) for key, value in await store.list(prefix)]
