"""Hooks of a phase, and those beside a life."""

import asyncio
from collections.abc import Iterator

import pytest

from containerlib.handle import StartFailed
from containerlib.hooks import Hook, Moment, OnFailure, Phase, Task, Timer
from containerlib.standalone.hands import Hands, Inside
from containerlib.standalone.telling import Telling


class Fake(Hands):
    """Remembers who was run when, and how often at once."""

    def __init__(self, failures: dict[str, str]) -> None:
        self.failures = failures
        self.ran: list[tuple[str, Moment]] = []
        self.at_once = self.at_once_max = 0

    async def run(self, task: Task, moment: Moment, inside: Inside | None) -> str:
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        self.ran.append((task.name, moment))
        await asyncio.sleep(0.001)
        self.at_once -= 1
        return self.failures.get(task.name, "")


def first(container: Moment) -> None: ...
def second(container: Moment) -> None: ...
def third(container: Moment) -> None: ...


def hook(function: object, phase: Phase, on_failure: OnFailure) -> Hook:
    return Hook(function=function, phase=phase, on_failure=on_failure)  # type: ignore[arg-type]


HOOKS = (
    hook(first, Phase.SETUP, OnFailure.REPORT),
    hook(third, Phase.READY, OnFailure.REPORT),
    hook(second, Phase.SETUP, OnFailure.ABORT),
)


@pytest.fixture
def heard() -> Iterator[list[str]]:
    yield []


def telling(heard: list[str], failures: dict[str, str]) -> tuple[Telling, Fake]:
    hands = Fake(failures)
    return Telling("web", hands, heard.append, lambda cause: Moment("web", cause), lambda: None), hands


async def test_a_phase_runs_its_own_in_their_order(heard: list[str]) -> None:
    told, hands = telling(heard, {})
    await told.phase(HOOKS, Phase.SETUP, exit_status=3, failure="why")
    assert [name for name, _ in hands.ran] == ["first", "second"]
    assert hands.ran[0][1] == Moment("web", "setup", exit_status=3, failure="why")
    assert (hands.at_once_max, heard) == (1, [])


async def test_what_may_fail_is_told_and_the_next_runs(heard: list[str]) -> None:
    told, hands = telling(heard, {"first": "ValueError: x"})
    await told.phase(HOOKS, Phase.SETUP)
    assert heard == ["web: hook first in phase setup: ValueError: x"]
    assert len(hands.ran) == 2


async def test_what_must_not_fail_ends_the_start(heard: list[str]) -> None:
    told, _ = telling(heard, {"second": "it ended with 1"})
    with pytest.raises(StartFailed, match="hook second in phase setup: it ended with 1"):
        await told.phase(HOOKS, Phase.SETUP)


async def test_one_run_at_a_time_beside_the_life(heard: list[str]) -> None:
    told, hands = telling(heard, {"first": "oops"})
    timers = [Timer(function=each, delay_s=1) for each in (first, second)]
    for timer in (*timers, *timers):
        told.aside(timer, "timer")
    await told.settle()
    assert sorted(name for name, _ in hands.ran) == ["first", "second"]
    assert heard == ["web: timer first: oops"]
    told.aside(timers[0], "timer")
    await told.settle()
    assert len(hands.ran) == 3
