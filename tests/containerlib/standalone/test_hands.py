"""The process in which a definition's own functions run, asked from the runner's side."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerlib.dsl.definitions import from_texts
from containerlib.hooks import Moment, Side, Task
from containerlib.process import start_time
from containerlib.standalone.hands import Hands
from containerlib.standalone.worker import tasks_of
from tests.plugins.compute import until

MOMENT = Moment("web", "ready", 17, "100.88.0.2", "www", ("/a",), {"team": "x"}, 3, "why")


def fails(container: Moment) -> None:
    raise ValueError(f"{container.name} is {container.failure}")


def leaves(container: Moment) -> None:
    sys.exit(3)


def dies(container: Moment) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nothing(container: Moment) -> None: ...


def write(container: Moment) -> None:
    Path(container.metadata["to"]).write_text(f"{os.getpid()} {container}")


def hangs(container: Moment) -> None:
    """With a child that would outlive it."""
    child = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "100")
    Path(container.metadata["to"]).write_text(str(child))
    time.sleep(100)


def slow(container: Moment) -> None:
    time.sleep(0.3)


TASKS = [Task(function=each) for each in (fails, leaves, dies, nothing, write, slow)]
FAILS, LEAVES, DIES, NOTHING, WRITE, SLOW = TASKS
HANGS = Task(function=hangs, timeout_s=0.3)
INSIDE = Task(function=nothing, side=Side.CONTAINER)


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands((*TASKS, HANGS, INSIDE))
    yield hands
    hands.close()


def moment(path: Path) -> Moment:
    return Moment("web", "ready", metadata={"to": str(path)})


async def test_it_is_told_and_runs_elsewhere(hands: Hands, tmp_path: Path) -> None:
    assert await hands.run(NOTHING, MOMENT, None) == ""
    assert await hands.run(WRITE, moment(tmp_path / "x"), None) == ""
    pid, _, told = (tmp_path / "x").read_text().partition(" ")
    assert int(pid) != os.getpid()
    assert told == str(moment(tmp_path / "x"))


@pytest.mark.parametrize(
    ("task", "failure"),
    [
        (FAILS, f"ValueError: web is why ({__file__}:"),
        (LEAVES, "it ended with 3"),
        (DIES, "it ended with -9"),
        (INSIDE, "there is no container to run it in"),
    ],
)
async def test_failures_are_told(hands: Hands, task: Task, failure: str) -> None:
    assert (await hands.run(task, MOMENT, None)).startswith(failure)
    assert await hands.run(NOTHING, MOMENT, None) == ""


async def test_what_takes_too_long_is_killed_with_what_it_started(hands: Hands, tmp_path: Path) -> None:
    failure = await hands.run(HANGS, moment(tmp_path / "child"), None)
    assert failure == "it took longer than its time limit and was killed"
    child = int((tmp_path / "child").read_text())
    await until(lambda: start_time(child) is None)


async def test_what_nobody_waits_for_any_more_is_killed(hands: Hands, tmp_path: Path) -> None:
    patient = Task(function=hangs, timeout_s=60)
    version, tasks = hands._tasks[""]
    hands._tasks[""] = (version, tuple(patient if each is HANGS else each for each in tasks))
    waiting = asyncio.get_running_loop().create_task(hands.run(patient, moment(tmp_path / "child"), None))
    await until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    waiting.cancel()
    child = int((tmp_path / "child").read_text())
    await until(lambda: start_time(child) is None)
    assert await hands.run(NOTHING, MOMENT, None) == ""


async def test_several_run_at_once(hands: Hands) -> None:
    began = time.monotonic()
    assert await asyncio.gather(*(hands.run(SLOW, MOMENT, None) for _ in range(6))) == [""] * 6
    assert time.monotonic() - began < 1.5


async def test_when_it_dies_whoever_waits_is_told(hands: Hands) -> None:
    waiting = asyncio.get_running_loop().create_task(hands.run(SLOW, MOMENT, None))
    await asyncio.sleep(0.05)
    os.kill(hands._pid, signal.SIGKILL)
    assert await waiting == "the process that runs hooks has died"
    assert await hands.run(NOTHING, MOMENT, None) == "the process that runs hooks has died"


async def test_what_still_runs_ends_with_it(tmp_path: Path) -> None:
    hands = Hands((HANGS,))
    waiting = asyncio.get_running_loop().create_task(hands.run(HANGS, moment(tmp_path / "child"), None))
    await until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    hands.close()
    waiting.cancel()
    child = int((tmp_path / "child").read_text())
    await until(lambda: start_time(child) is None)


TEXT = """
from containerlib import define
@define("web")
def web(c):
    c.command("x")
    @c.after("1s")
    def write(container):
        raise ValueError("of version VERSION")
"""


async def test_definitions_are_read_anew(hands: Hands) -> None:
    for version in (b"1", b"2"):
        texts = {"/x/web.py": TEXT.encode().replace(b"VERSION", version)}
        tasks = tasks_of(from_texts(texts).spec("web"))
        assert await hands.load(texts, "web", tasks) == ""
        assert await hands.run(tasks[0], MOMENT, None) == f"ValueError: of version {version.decode()} (/x/web.py:8)"
        assert await hands.run(NOTHING, MOMENT, None) == "its definition was read anew meanwhile"
    broken = {"/x/web.py": b"1 / 0"}
    assert "ZeroDivisionError" in await hands.load(broken, "web", ())
    assert "of version 2" in await hands.run(tasks[0], MOMENT, None)


async def test_what_was_asked_for_by_an_older_number_is_not_run(hands: Hands) -> None:
    """It could mean another function by now."""
    texts = {"/x/web.py": TEXT.encode()}
    assert await hands.load(texts, "web", tasks_of(from_texts(texts).spec("web"))) == ""
    hands._tasks = {"": (0, (FAILS,))}
    assert "its definition was read anew meanwhile" in await hands.run(FAILS, MOMENT, None)
