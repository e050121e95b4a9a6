"""Functions beside a life: which run, in which order, what their failures do, and that none is left."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from containerlib.handle import StartFailed
from containerlib.hooks import Hook, Moment, OnFailure, Phase, Task, Timer
from containerlib.spec import ContainerSpec
from containerlib.standalone.hands import Inside
from dispatcher.compute.hooked import Hooked
from dispatcher.compute.life import Life
from dispatcher.domain import App, AppSpec, Cause
from tests.fakes.runtime import FakeContainer
from tests.plugins.compute import until


class FakeHelper:
    def __init__(self) -> None:
        self.ran: list[str] = []
        self.moments: list[Moment] = []
        self.failing: dict[str, str] = {}

    async def run(self, task: Task, moment: Moment, inside: Inside | None) -> str:
        self.ran.append(f"{moment.cause} {task.name}")
        self.moments.append(moment)
        await asyncio.sleep(0)
        return self.failing.get(task.name, "")


def one(_container: Moment) -> None: ...
def two(_container: Moment) -> None: ...


def hook(function: Callable[[Moment], None], phase: Phase, on_failure: OnFailure = OnFailure.REPORT) -> Hook:
    return Hook(function=function, phase=phase, on_failure=on_failure)


class Lab:
    def __init__(self, container: FakeContainer) -> None:
        self.helper, self.said = FakeHelper(), list[str]()
        self.life = Life(App("blog", AppSpec(("x",))), "1", 1, Cause.REQUEST, "", 0.0, 0.0, 0.0)
        self.life.handle = container  # type: ignore[assignment]

    def hooked(self, **values: Any) -> Hooked:
        definition = ContainerSpec("site", ("x",), metadata={"team": "x"}, **values)
        return Hooked(self.life, definition, self.helper, self.said.append)


@pytest.fixture
def lab() -> Iterator[Lab]:
    container = FakeContainer(7, "etc")
    yield Lab(container)
    container.end(0)
    container.close()


async def test_hooks_of_a_phase_run_one_after_the_other_and_are_told_of_the_container(lab: Lab) -> None:
    hooked = lab.hooked(hooks=(hook(one, Phase.READY), hook(two, Phase.READY), hook(one, Phase.TEARDOWN)))
    await hooked.phases((Phase.SETUP, Phase.READY))
    assert lab.helper.ran == ["ready one", "ready two"]
    moment = lab.helper.moments[0]
    assert (moment.name, moment.hostname, moment.address) == ("blog", "blog", "100.96.0.7")
    assert moment.metadata == {"team": "x"} and moment.cgroups


async def test_a_failure_is_told_or_ends_the_start(lab: Lab) -> None:
    lab.helper.failing = {"one": "no", "two": "never"}
    hooked = lab.hooked(hooks=(hook(one, Phase.SETUP), hook(two, Phase.SETUP, OnFailure.ABORT)))
    with pytest.raises(StartFailed, match="hook two in phase setup: never"):
        await hooked.phases((Phase.SETUP,))
    assert lab.said == ["blog/1.1: hook one in phase setup: no"]


async def test_the_end_is_told_before_and_after_what_is_left_is_cleared_away(lab: Lab) -> None:
    phases = (Phase.AFTER_FAILURE, Phase.TEARDOWN_CONTAINER, Phase.TEARDOWN)
    hooked = lab.hooked(hooks=tuple(hook(one, phase) for phase in phases))

    async def destroy() -> None:
        lab.helper.ran.append("destroyed")

    await hooked.end("why", 137, destroy)
    assert lab.helper.ran == ["after_failure one", "teardown_container one", "destroyed", "teardown one"]
    assert {(moment.failure, moment.exit_status) for moment in lab.helper.moments} == {("why", 137)}
    await hooked.end("", 0, destroy)
    assert "after_failure one" not in lab.helper.ran[4:]


async def test_timers_rest_and_go_on_and_end(lab: Lab) -> None:
    hooked = lab.hooked(timers=(Timer(function=one, delay_s=0.1, interval_s=0.1),))
    hooked.start_timers()
    await until(lambda: len(lab.helper.ran) >= 2)
    hooked.rest()
    await asyncio.sleep(0)
    ran = len(lab.helper.ran)
    await asyncio.sleep(0.25)  # two intervals and a half, in which nothing is to happen
    assert len(lab.helper.ran) == ran
    hooked.resume()
    await until(lambda: len(lab.helper.ran) > ran + 1)
    hooked.close()
    assert set(lab.helper.ran) == {"timer one"}


async def test_what_was_due_under_a_former_agent_is_not_run_again(lab: Lab) -> None:
    timers = (Timer(function=one, delay_s=0.05), Timer(function=two, delay_s=5.1))
    hooked = lab.hooked(timers=timers)
    hooked.start_timers(since_s=5.0)
    await until(lambda: lab.helper.ran)
    assert lab.helper.ran == ["timer two"]
    hooked.close()


async def test_a_definition_read_anew_has_its_own_functions(lab: Lab) -> None:
    hooked = lab.hooked(timers=(Timer(function=one, delay_s=0.1, interval_s=0.1),))
    hooked.start_timers()
    new = ContainerSpec(
        "site", ("x",), timers=(Timer(function=two, delay_s=0.1),), hooks=(hook(two, Phase.AFTER_RELOAD),)
    )
    await hooked.reload(new)
    await until(lambda: len(lab.helper.ran) == 2)
    assert lab.helper.ran == ["after_reload two", "timer two"]
    hooked.close()
