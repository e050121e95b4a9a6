"""CMCache over the store in memory; test_failures.py has it over a real etcd that breaks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.cache import Change, CMCache
from dispatcher.cmdb.keys import ComputeKey, ContainerKey, DomainKey, Field, SpecKey, WordKey
from dispatcher.cmdb.memory import MemoryStore
from dispatcher.cmdb.store import Delete, Put, Store
from dispatcher.domain import AppSpec, ComputeRow, ContainerRow

SPEC = codec.encode(AppSpec(command=("serve",)))
ROW = codec.encode(ContainerRow(compute="one"))


async def write(store: Store, key: str, value: bytes | None) -> None:
    await store.commit([], [Delete(key) if value is None else Put(key, value)])


class Watched:
    """A started cache, and what it told."""

    def __init__(self, store: Store) -> None:
        self.cache = CMCache(store)
        self.changes: list[Change] = []
        self.refusals: list[tuple[str, str, str]] = []
        self._told = asyncio.Event()
        self.cache.on_change(self._on_change)
        self.cache.on_refused(self._on_refused)

    def _on_change(self, change: Change) -> None:
        self.changes.append(change)
        self._told.set()

    def _on_refused(self, key: str, value: str, rule: str) -> None:
        self.refusals.append((key, value, rule))
        self._told.set()

    async def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Looks whenever the cache tells something, and now and then for what it does not tell."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._told.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._told.wait(), 0.05)


@pytest.fixture
async def memory() -> MemoryStore:
    store = MemoryStore(page_keys=2)
    await write(store, keys.spec_key("blog"), SPEC)
    await write(store, keys.domain_key("blog.example.com"), b"blog\n")
    await write(store, keys.domain_key("*.example.com"), b"rest")
    await write(store, keys.domain_key("*.a.example.com"), b"nearer")
    await write(store, keys.container_key("blog", "1"), ROW)
    await write(store, keys.word_key("blog", "cpu"), b"30%")
    await write(store, keys.event_key("blog", "1"), b"not ours")
    return store


@pytest.fixture
async def watched(memory: MemoryStore) -> AsyncIterator[Watched]:
    watched = Watched(memory)
    await watched.cache.start(5)
    yield watched
    await watched.cache.close()


@pytest.mark.parametrize(
    ("host", "app"),
    [
        ("blog.example.com", "blog"),
        ("x.example.com", "rest"),
        ("y.x.example.com", "rest"),
        ("x.a.example.com", "nearer"),
        ("a.example.com", "rest"),
        ("example.com", None),
        ("example.org", None),
        ("", None),
        ("." * 1_000_000, None),
        ("*.example.com", "rest"),
    ],
)
async def test_domains(watched: Watched, host: str, app: str | None) -> None:
    assert watched.cache.app_for(host) == app


async def test_load(watched: Watched) -> None:
    cache = watched.cache
    app = cache.app("blog")
    assert app is not None
    assert (app.spec.command, app.cpu, app.containers) == (("serve",), 0.3, 1)
    assert cache.containers("blog") == {"1": ContainerRow(compute="one")}
    assert cache.containers("nobody") == {}
    assert cache.app("nobody") is None
    assert list(cache.apps()) == ["blog"]
    assert cache.size == 6
    assert watched.changes == []


async def test_changes_are_applied_and_told(watched: Watched, memory: MemoryStore) -> None:
    cache = watched.cache
    assert cache.app("blog") is not None and cache.containers("blog")
    await write(memory, keys.word_key("blog", "cpu"), b"60%")
    await write(memory, keys.word_key("blog", "containers"), b"3")
    await write(memory, keys.container_key("blog", "2"), ROW)
    await write(memory, keys.container_key("blog", "1"), None)
    await write(memory, keys.domain_key("blog.example.com"), None)
    await write(memory, keys.compute_key("one"), codec.encode(ComputeRow("10.0.0.1:8081", 2, 1 << 30)))
    await watched.until(lambda: len(watched.changes) == 6)
    assert watched.changes == [
        Change(WordKey("blog", Field.CPU)),
        Change(WordKey("blog", Field.CONTAINERS)),
        Change(ContainerKey("blog", "2")),
        Change(ContainerKey("blog", "1"), deleted=True),
        Change(DomainKey("blog.example.com"), deleted=True),
        Change(ComputeKey("one")),
    ]
    app = cache.app("blog")
    assert app is not None and (app.cpu, app.containers) == (0.6, 3)
    assert list(cache.containers("blog")) == ["2"]
    assert cache.app_for("blog.example.com") == "rest"
    assert list(cache.computes()) == ["one"]
    assert cache.size == 7
    assert cache.revision == memory.revision
    assert cache.events == 6
    await write(memory, keys.spec_key("blog"), None)
    await watched.until(lambda: len(watched.changes) == 7)
    assert cache.app("blog") is None


@pytest.mark.parametrize(
    ("key", "bad", "rule"),
    [
        (keys.word_key("blog", "cpu"), b"lots", "share of one core"),
        (keys.spec_key("blog"), b'{"command":[]}', "needs one"),
        (keys.container_key("blog", "1"), b"{", "JSON"),
        (keys.domain_key("blog.example.com"), b"Blog", "app name"),
    ],
)
async def test_bad_value_changes_nothing_and_is_told_once(
    watched: Watched, memory: MemoryStore, key: str, bad: bytes, rule: str
) -> None:
    cache = watched.cache
    before = cache.app("blog"), cache.containers("blog"), cache.app_for("blog.example.com"), cache.size
    await write(memory, key, bad)
    await watched.until(lambda: bool(watched.refusals))
    assert watched.refusals[0][:2] == (key, bad.decode())
    assert rule in watched.refusals[0][2]
    assert before == (cache.app("blog"), cache.containers("blog"), cache.app_for("blog.example.com"), cache.size)

    # Loading anew, which finds the same bad value, keeps the last good one and does not tell it again.
    await reload(watched, memory)
    assert before == (cache.app("blog"), cache.containers("blog"), cache.app_for("blog.example.com"), cache.size)
    assert len(watched.refusals) == 1
    assert watched.changes == []

    await write(memory, key, bad)
    await watched.until(lambda: len(watched.refusals) == 2)
    await write(memory, key, None)
    await watched.until(lambda: len(watched.changes) == 1)
    assert cache.size == before[3] - 1


async def reload(watched: Watched, memory: MemoryStore, meanwhile: tuple[Put | Delete, ...] = ()) -> None:
    """What the cache missed is compacted, so that it has to load."""
    loads = watched.cache.loads
    memory.down = True
    await watched.until(lambda: not watched.cache.connected)
    memory.down = False
    await memory.commit([], [Put("/fastcontainer/events/blog/2", b"x"), *meanwhile])
    await memory.commit([], [Put("/fastcontainer/events/blog/2", b"y")])
    memory.compact()
    await watched.until(lambda: watched.cache.loads > loads and watched.cache.connected)


async def test_unknown_key_is_refused(watched: Watched, memory: MemoryStore) -> None:
    await write(memory, keys.APPS + "blog/cpuu", b"60%")
    await watched.until(lambda: bool(watched.refusals))
    assert watched.refusals[0][:2] == (keys.APPS + "blog/cpuu", "60%")
    await reload(watched, memory)
    assert len(watched.refusals) == 1


async def test_bad_values_found_by_the_load() -> None:
    memory = MemoryStore()
    await write(memory, keys.spec_key("blog"), b"{}")
    await write(memory, keys.container_key("blog", "1"), b"{}")
    await write(memory, keys.container_key("blog", "2"), ROW)
    await write(memory, keys.word_key("blog", "cpu"), b"lots")
    watched = Watched(memory)
    await watched.cache.start(5)
    assert [key for key, _, _ in watched.refusals] == [keys.word_key("blog", "cpu")]
    assert watched.cache.app("blog") is None
    assert list(watched.cache.containers("blog")) == ["2"]
    assert watched.cache.app("blog") is None and list(watched.cache.containers("blog")) == ["2"]
    assert [key for key, _, _ in watched.refusals[1:]] == [keys.spec_key("blog"), keys.container_key("blog", "1")]
    await watched.cache.close()


async def test_outage_keeps_everything_and_the_watch_resumes(watched: Watched, memory: MemoryStore) -> None:
    memory.down = True
    await watched.until(lambda: not watched.cache.connected)
    assert watched.cache.app_for("blog.example.com") == "blog"
    assert watched.cache.app("blog") is not None
    memory.down = False
    await write(memory, keys.word_key("blog", "cpu"), b"60%")
    await watched.until(lambda: bool(watched.changes))
    assert watched.cache.loads == 1
    assert watched.cache.reconnects >= 1


async def test_reload_replaces_by_difference(watched: Watched, memory: MemoryStore) -> None:
    await reload(
        watched,
        memory,
        (
            Put(keys.word_key("blog", "cpu"), b"60%"),
            Delete(keys.domain_key("*.example.com")),
            Put(keys.spec_key("new"), SPEC),
        ),
    )
    assert sorted(watched.changes, key=str) == sorted(
        [Change(WordKey("blog", Field.CPU)), Change(SpecKey("new")), Change(DomainKey("*.example.com"), deleted=True)],
        key=str,
    )
    app = watched.cache.app("blog")
    assert app is not None and app.cpu == 0.6


async def test_wiped_store_empties_the_cache_only_by_what_it_now_holds(watched: Watched, memory: MemoryStore) -> None:
    memory.wipe()
    await write(memory, keys.spec_key("blog"), SPEC)
    await watched.until(lambda: watched.cache.loads == 2 and watched.cache.connected)
    assert watched.cache.size == 1
    assert watched.cache.revision == memory.revision
    assert len(watched.changes) == 5


async def test_start_waits_for_the_store_and_gives_up_in_time(memory: MemoryStore) -> None:
    memory.down = True
    watched = Watched(memory)
    with pytest.raises(TimeoutError):
        await watched.cache.start(0.05)
    memory.down = False
    await watched.cache.start(5)
    assert watched.cache.size == 6
    await watched.cache.close()


async def test_a_listener_that_fails_does_not_stop_the_cache(watched: Watched, memory: MemoryStore) -> None:
    def fail(change: Change) -> None:
        raise RuntimeError("on purpose")

    watched.cache.on_change(fail)
    await write(memory, keys.word_key("blog", "cpu"), b"60%")
    await write(memory, keys.word_key("blog", "cpu"), b"70%")
    await watched.until(lambda: len(watched.changes) == 2)


async def test_age_counts_from_the_last_answer() -> None:
    now = 100.0
    memory = MemoryStore()
    cache = CMCache(memory, clock=lambda: now)
    await cache.start(5)
    now = 107.0
    assert cache.age_s(now) == 7.0
    await cache.close()
