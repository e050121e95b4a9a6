"""Lives by themselves, told by a listener that only takes notes. What an agent makes of them is in test_agent.py."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from containerlib.images import Store
from containerlib.readiness import ListenEvents
from dispatcher.compute import lives as lives_module
from dispatcher.compute.definitions import Shelf
from dispatcher.compute.helper import Helper
from dispatcher.compute.journal import Journal
from dispatcher.compute.life import Life
from dispatcher.compute.lives import Lives
from dispatcher.compute.pool import Pool
from dispatcher.compute.restored import Keeper
from dispatcher.compute.roots import Roots
from dispatcher.compute.state import IllegalTransition
from dispatcher.domain import App, AppSpec, Cause, Mount, Policy, Status
from dispatcher.tasks import Tasks
from tests.fakes.runtime import FakeContainer, FakeRuntime
from tests.plugins.compute import until

APP = App("blog", AppSpec(command=("serve",), mounts=(Mount("/data", "/srv", True),), env={"A": "1"}), uid=200_001)


class Notes:
    def __init__(self) -> None:
        self.attached: set[int] = set()
        self.changed: list[str] = []
        self.ended: list[tuple[str, bool, str]] = []
        self.told: list[tuple[str, str]] = []

    def proxies(self) -> set[int]:
        return set(self.attached)

    def life_changed(self, life: Life) -> None:
        self.changed.append(f"{life.name} {life.status}")

    def not_imaged(self, life: Life, kind: str, why: str) -> None:
        self.told.append((kind, why))

    def life_ended(self, life: Life, *, expected: bool) -> None:
        self.ended.append((life.name, expected, life.problem))

    def tell(self, life: Life, kind: str, message: str) -> None:
        self.told.append((kind, message))


class Lab:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runtime, self.notes, self.tasks = FakeRuntime(), Notes(), Tasks()
        self.journal = Journal(directory / "journal")
        self.records = self.journal.open()
        self.pool = Pool(self.runtime, 1, self.tasks)  # type: ignore[arg-type]
        self.lives = Lives(
            self.runtime,  # type: ignore[arg-type]
            self.pool, ListenEvents("never-opened"), self.journal, directory / "log", self.tasks, self.notes,
            Roots(Store(directory / "images"), directory), Shelf(directory / "definitions"), Helper(self.tasks),
            Keeper(self.runtime, directory / "checkpoints"),  # type: ignore[arg-type]
        )  # fmt: skip
        self.pool.start()

    async def run(self, app: App = APP, id: str = "1", generation: int = 1) -> Life:
        life = self.lives.start(app, id, generation, Cause.REQUEST)
        await until(lambda: life.status is Status.RUNNING)
        return life

    def container(self, life: Life) -> FakeContainer:
        assert isinstance(life.handle, FakeContainer)
        return life.handle

    def recorded(self) -> list[tuple[str, str]]:
        return [(record.life, str(record.status)) for record in self.journal._lives.values()]

    async def close(self) -> None:
        await self.tasks.close()
        await self.pool.close()
        for life in self.lives:
            if life.log and life.handle:
                asyncio.get_running_loop().remove_reader(life.handle.pidfd)
                life.log.close()
        for container in list(self.runtime.containers.values()):
            await self.runtime.destroy(container)
        self.journal.close()


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    monkeypatch.setattr(lives_module, "ACK_S", 0.1)
    directory = Path(tempfile.mkdtemp(prefix="fc-"))
    lab = Lab(directory)
    yield lab
    await lab.close()
    shutil.rmtree(directory)


def silent(container: FakeContainer) -> None:
    """Never listens."""


async def test_a_life_from_start_to_end(lab: Lab) -> None:
    life = await lab.run()
    container = lab.container(life)
    identity = container.identity
    assert identity is not None
    assert (identity.hostname, identity.uid, identity.env, identity.mounts) == ("blog", 200_001, {"A": "1"}, ("/srv",))
    assert [(mount.source, mount.target, mount.readonly) for mount in container.mounts] == [("/data", "/srv", True)]
    assert lab.recorded() == [("blog/1.1", "running")]
    assert lab.lives.by_name("blog/1.1") is life
    assert lab.lives.by_name("blog/1.2") is None
    lab.lives.drain(life, "enough")
    await until(lambda: lab.notes.ended)
    await until(lambda: not lab.recorded())
    assert lab.notes.changed == ["blog/1.1 starting", "blog/1.1 running", "blog/1.1 draining"]
    assert lab.notes.ended == [("blog/1.1", True, "")]
    assert container.signals == [signal.SIGTERM]
    assert container.is_closed
    assert len(lab.lives) == 0


async def test_each_step_is_on_record_before_it_is_done(lab: Lab) -> None:
    seen: list[list[tuple[str, str]]] = []
    lab.runtime.programs["blog"] = lambda container: (seen.append(lab.recorded()), container.listen(80))[1]
    life = await lab.run()
    lab.container(life).on_stop = lambda: (seen.append(lab.recorded()), lab.container(life).end(15))[1]  # type: ignore[func-returns-value]
    lab.lives.drain(life, "enough")
    await until(lambda: lab.notes.ended)
    assert seen == [[("blog/1.1", "starting")], [("blog/1.1", "draining")]]


async def test_one_that_heeds_no_signal_is_killed_after_its_grace(lab: Lab) -> None:
    life = await lab.run()
    container = lab.container(life)
    container.on_stop = lambda: None
    began = time.monotonic()
    lab.lives.drain(life, "enough")
    await until(lambda: lab.notes.ended)
    assert container.signals[:2] == [signal.SIGTERM, signal.SIGKILL]
    assert 0.14 <= time.monotonic() - began < 0.5
    assert lab.notes.ended == [("blog/1.1", True, "")]


async def test_drained_before_it_was_executed(lab: Lab) -> None:
    lab.runtime.failing = OSError("none can be made")
    await until(lambda: lab.pool.ready == 1)
    await lab.runtime.destroy(await lab.pool.take())  # type: ignore[arg-type]
    life = lab.lives.start(APP, "1", 1, Cause.REQUEST)
    lab.lives.drain(life, "never mind")
    await asyncio.sleep(0.02)
    assert not lab.notes.ended  # a start is never left half-done
    lab.runtime.failing = None
    await until(lambda: lab.notes.ended)
    assert lab.notes.ended == [("blog/1.1", True, "")]
    await until(lambda: not lab.recorded())


async def test_drained_while_it_boots(lab: Lab) -> None:
    lab.runtime.programs["blog"] = silent
    life = lab.lives.start(APP, "1", 1, Cause.REQUEST)
    await until(lambda: lab.runtime.woken and life.log)
    lab.lives.drain(life, "never mind")
    await until(lambda: lab.notes.ended)
    assert lab.notes.ended == [("blog/1.1", True, "")]


async def test_drained_twice_the_earlier_end_counts(lab: Lab) -> None:
    life = await lab.run()
    life.counts[1] = 1
    lab.lives.drain(life, "old", cut_after_s=30)
    lab.lives.drain(life, "stopped by hand")
    assert not life.stopping
    lab.lives.drain(life, "now", cut_after_s=0)
    await until(lambda: lab.notes.ended)
    assert ("cut", "1 requests in flight were cut: old") in lab.notes.told
    assert [kind for kind, _ in lab.notes.told] == ["draining", "cut"]


async def test_it_waits_for_each_proxy_that_was_there(lab: Lab) -> None:
    lab.notes.attached = {1, 2}
    life = await lab.run()
    lab.lives.drain(life, "enough")
    lab.lives.confirm(life, 1)
    lab.lives.confirm(life, 7)
    assert not life.stopping
    lab.lives.confirm(life, 2)
    assert life.stopping


async def test_a_proxy_that_does_not_confirm_is_waited_for_only_so_long(lab: Lab) -> None:
    lab.notes.attached = {1}
    life = await lab.run()
    lab.lives.drain(life, "enough")
    now = time.monotonic()
    lab.lives.check(life, now + 0.05)
    assert not life.stopping
    lab.lives.check(life, now + 0.11)
    assert life.stopping


async def test_what_is_in_flight_is_waited_for_without_end(lab: Lab) -> None:
    life = await lab.run()
    life.counts = {1: 2}
    lab.lives.drain(life, "enough")
    lab.lives.check(life, time.monotonic() + 1e6)
    assert not life.stopping
    life.counts.clear()
    lab.lives.check(life, time.monotonic() + 1)
    assert life.stopping


async def test_a_death_is_told_with_its_last_words(lab: Lab) -> None:
    life = await lab.run()
    container = lab.container(life)
    os.write(container.stderr, b"segfault at 0\nbye")
    container.end(11)
    await until(lambda: lab.notes.ended)
    assert lab.notes.ended == [("blog/1.1", False, "it was killed by SIGSEGV; its last words: segfault at 0; bye")]
    assert life.status is Status.FAILED


async def test_an_app_without_users_does_not_start(lab: Lab) -> None:
    lab.lives.start(App("blog", AppSpec(command=("serve",))), "1", 1, Cause.REQUEST)
    await until(lambda: lab.notes.ended)
    ((_, expected, problem),) = lab.notes.ended
    assert not expected
    assert "no range of user ids yet" in problem
    assert lab.runtime.woken == []


async def test_a_wake_that_takes_too_long_says_so(lab: Lab) -> None:
    lab.runtime.refusing = TimeoutError()
    lab.lives.start(APP, "1", 1, Cause.REQUEST)
    await until(lambda: lab.notes.ended)
    assert lab.notes.ended[0][2]


async def test_what_is_not_running_cannot_be_drained_when_it_has_failed(lab: Lab) -> None:
    lab.runtime.programs["blog"] = lambda container: container.end(1 << 8)
    life = lab.lives.start(APP, "1", 1, Cause.REQUEST)
    await until(lambda: lab.notes.ended)
    with pytest.raises(IllegalTransition):
        lab.lives.drain(life, "too late")


async def test_lives_of_one_app_do_not_disturb_each_other(lab: Lab) -> None:
    first, second = await lab.run(id="1"), await lab.run(id="2")
    lab.container(first).end(9)
    await until(lambda: lab.notes.ended)
    assert lab.lives.of("blog") == {"2": second}
    assert [life.name for life in lab.lives] == ["blog/2.1"]


async def test_new_limits(lab: Lab) -> None:
    life = await lab.run()
    bigger = App("blog", APP.spec, cpu=0.6, memory_bytes=64 << 20, uid=200_001)
    lab.lives.resize(life, bigger)
    assert lab.container(life).group.limits.cpu == 0.6
    assert lab.container(life).group.limits.memory_bytes == 64 << 20
    lab.container(life).group.memory_in_use = 60 << 20
    with pytest.raises(OSError, match="busy"):
        lab.lives.resize(life, App("blog", APP.spec, cpu=0.6, memory_bytes=32 << 20, uid=200_001))
    assert lab.container(life).group.limits.memory_bytes == 64 << 20


async def test_a_life_never_ends_after_its_lifespan_nor_long_before(lab: Lab) -> None:
    policy = Policy(lifespan_s=100, lifespan_jitter=0.2)
    app = App("blog", AppSpec(command=("serve",), policy=policy), uid=200_001)
    for number in range(1, 30):
        life = lab.lives.start(app, str(number), 1, Cause.REQUEST)
        assert 79.9 <= life.expires - life.started <= 100
    await until(lambda: all(life.status is Status.RUNNING for life in lab.lives))


async def test_an_owner_who_fails_at_its_end_leaves_nothing_behind(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    life = await lab.run()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of its owner's")

    monkeypatch.setattr(lab.notes, "life_ended", fail)
    container = lab.container(life)
    container.end(0)
    await until(lambda: container.slot not in lab.runtime.containers)
    assert "a fault of its owner's" in caplog.text
