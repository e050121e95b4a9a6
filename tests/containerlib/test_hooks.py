"""Phases and their rules; what may be a hook."""

from signal import Signals

import pytest

from containerlib.checks import SpecError
from containerlib.hooks import (
    PHASES,
    CgroupHook,
    Hook,
    Moment,
    OnFailure,
    Phase,
    Side,
    SignalHandler,
    Task,
    Timer,
    check_function,
    of_phase,
)


def nothing(container: Moment) -> None: ...


def hook(phase: Phase, side: Side | None = None, on_failure: OnFailure | None = None) -> Hook:
    rule = PHASES[phase]
    return Hook(function=nothing, phase=phase, side=side or rule.side, on_failure=on_failure or rule.on_failure)


def test_every_phase_has_its_rule_in_the_order_of_a_life() -> None:
    assert list(PHASES) == list(Phase)


def test_a_start_can_fail_until_its_program_runs_and_not_after() -> None:
    can_abort = [PHASES[phase].can_abort for phase in Phase]
    assert can_abort == sorted(can_abort, reverse=True)
    assert PHASES[Phase.AFTER_START].can_abort
    assert not PHASES[Phase.READY].can_abort


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_takes_a_hook_by_its_own_rule(phase: Phase) -> None:
    assert hook(phase).side is PHASES[phase].side


@pytest.mark.parametrize(
    "phase",
    [
        Phase.SETUP,
        Phase.BEFORE_FORK,
        Phase.AFTER_FORK_HOST,
        Phase.BEFORE_RESTORE,
        Phase.TEARDOWN_CONTAINER,
        Phase.TEARDOWN,
    ],
)
def test_where_there_is_no_container_nothing_runs_in_it(phase: Phase) -> None:
    with pytest.raises(SpecError, match=f"side: 'container' is not possible in phase {phase}"):
        hook(phase, Side.CONTAINER)


def test_what_runs_already_cannot_fail_to_start() -> None:
    with pytest.raises(SpecError, match="on_failure: 'abort' is not possible in phase ready"):
        hook(Phase.READY, on_failure=OnFailure.ABORT)
    assert hook(Phase.SETUP, on_failure=OnFailure.REPORT).on_failure is OnFailure.REPORT


async def coroutine(container: Moment) -> None: ...


def two(container: Moment, more: int) -> None: ...


def optional(container: Moment, more: int = 1) -> None: ...


@pytest.mark.parametrize(
    ("function", "rule"),
    [
        ("print", "is not a function"),
        (coroutine, "is a coroutine"),
        (two, "does not take one argument"),
        (lambda: 1, "does not"),
    ],
)
def test_is_no_hook(function: object, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        check_function(function)


@pytest.mark.parametrize("function", [nothing, optional, lambda container: 1, print])
def test_is_a_hook(function: object) -> None:
    check_function(function)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Task(function=nothing, timeout_s=0), "timeout: 0 is not more than 0"),
        (lambda: Timer(function=nothing, delay_s=-1), "delay: -1 is not 0 or more"),
        (lambda: Timer(function=nothing, delay_s=0, interval_s=0.01), "every: 0.01 is not 0.1 seconds or more"),
        (lambda: Timer(function=nothing, delay_s=0, interval_s=1, limit=0), "limit: 0 is not from 1"),
        (lambda: CgroupHook(function=nothing, cause="cpu"), "cause: 'cpu' is none of oom, pressure"),
        (lambda: CgroupHook(function=nothing, cause="pressure", level="high"), "level: 'high' is none of"),
        (
            lambda: SignalHandler(function=nothing, signal=Signals.SIGTERM),
            "signal: 'TERM' is none of TTIN, TTOU, USR1, USR2",
        ),
        (lambda: SignalHandler(function=nothing, signal=Signals.SIGHUP), "signal: 'HUP' is none of"),
    ],
)
def test_is_refused(make, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        make()


def test_several_in_one_phase_keep_their_order() -> None:
    first, other, second = hook(Phase.READY), hook(Phase.SETUP), hook(Phase.READY, Side.CONTAINER)
    assert of_phase((first, other, second), Phase.READY) == (first, second)


def test_a_task_goes_by_the_name_of_its_function() -> None:
    assert Task(function=nothing).name == "nothing"
