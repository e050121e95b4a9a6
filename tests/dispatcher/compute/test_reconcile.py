"""What is to be done about containers: tables, and the properties that hold for any of them."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.compute.reconcile import (
    BACKOFF_MAX_S,
    CountStep,
    Entry,
    Fate,
    Step,
    acting_compute,
    backoff_s,
    count_steps,
    end_of_frozen,
    fate,
    lifespan_s,
    next_id,
)
from dispatcher.domain import Policy, Start, Status

ASLEEP, STARTING, RUNNING, FROZEN, DRAINING, FAILED = (
    Status.REGISTERED, Status.STARTING, Status.RUNNING, Status.FROZEN, Status.DRAINING, Status.FAILED,
)  # fmt: skip


def entries(*statuses: Status) -> list[Entry]:
    return [Entry(str(number), status) for number, status in enumerate(statuses, 1)]


def steps(wanted: int, *statuses: Status, awake: bool = False) -> list[str]:
    return [f"{step.step} {step.id}" for step in count_steps(wanted, entries(*statuses), awake=awake)]


@pytest.mark.parametrize(
    ("wanted", "statuses", "awake", "expected"),
    [
        (0, (), False, []),
        (1, (), False, ["register 1"]),
        (1, (ASLEEP,), False, []),
        (3, (ASLEEP,), False, ["register 2", "register 3"]),
        (3, (RUNNING,), True, ["register 2", "start 2", "register 3", "start 3"]),
        (2, (RUNNING, ASLEEP), True, ["start 2"]),
        (2, (RUNNING, FAILED), True, []),  # it rests
        (2, (FROZEN, ASLEEP), False, []),  # they sleep as a whole
        (3, (FROZEN, FROZEN), False, ["register 3"]),
        (1, (FROZEN, FROZEN), False, ["drain 2"]),
        (1, (RUNNING, FROZEN), True, ["drain 2"]),
        (1, (FROZEN, ASLEEP), False, ["remove 2"]),
        (2, (RUNNING, STARTING), True, []),
        (1, (ASLEEP, ASLEEP, ASLEEP), False, ["remove 3", "remove 2"]),
        (1, (RUNNING, ASLEEP), True, ["remove 2"]),
        (1, (RUNNING, FAILED, ASLEEP), True, ["remove 2", "remove 3"]),
        (1, (RUNNING, STARTING), True, ["drain 2"]),
        (
            1,
            (RUNNING, RUNNING),
            True,
            ["drain 1"],
        ),  # the oldest: a former agent may have started the other to replace it
        (0, (RUNNING, ASLEEP), True, ["remove 2", "drain 1"]),
        (1, (DRAINING,), False, []),
        (1, (DRAINING, RUNNING), True, ["drain 1"]),
    ],
)
def test_count(wanted: int, statuses: tuple[Status, ...], awake: bool, expected: list[str]) -> None:
    assert steps(wanted, *statuses, awake=awake) == expected


def test_what_leaves_is_not_counted_but_keeps_its_id() -> None:
    leaving = [Entry("1", DRAINING, leaving=True), Entry("2", RUNNING)]
    assert count_steps(1, leaving, awake=True) == ()
    assert count_steps(1, leaving[:1], awake=False) == (CountStep(Step.REGISTER, "2"),)


any_entries = st.lists(st.tuples(st.sampled_from(Status), st.booleans()), max_size=12).map(
    lambda found: [Entry(str(number), status, leaving) for number, (status, leaving) in enumerate(found, 1)]
)


def applied(found: list[Entry], taken: tuple[CountStep, ...]) -> list[Entry]:
    rows = {entry.id: entry for entry in found}
    for step in taken:
        match step.step:
            case Step.REGISTER:
                assert step.id not in rows
                rows[step.id] = Entry(step.id, ASLEEP)
            case Step.REMOVE:
                assert not rows.pop(step.id).status.is_alive()
            case Step.DRAIN:
                assert rows[step.id].status.is_alive()
                rows[step.id] = Entry(step.id, DRAINING, leaving=True)
            case Step.START:
                assert rows[step.id].status is ASLEEP
                rows[step.id] = Entry(step.id, STARTING)
    return list(rows.values())


@given(st.integers(0, 12), any_entries, st.booleans())
def test_the_steps_reach_the_wanted_count_and_there_they_end(wanted: int, found: list[Entry], awake: bool) -> None:
    after = applied(found, count_steps(wanted, found, awake=awake))
    counted = [entry for entry in after if not entry.leaving]
    assert len(counted) == wanted
    assert count_steps(wanted, after, awake=awake) == ()
    if awake:
        assert ASLEEP not in {entry.status for entry in counted}


@given(st.integers(0, 12), any_entries, st.booleans())
def test_nothing_is_touched_twice_and_what_leaves_is_left_alone(wanted: int, found: list[Entry], awake: bool) -> None:
    taken = count_steps(wanted, found, awake=awake)
    touched = Counter(step.id for step in taken if step.step is not Step.START)
    assert set(touched.values()) <= {1}
    assert not set(touched) & {entry.id for entry in found if entry.leaving}


@given(any_entries)
def test_a_running_container_goes_only_when_nothing_lesser_is_left(found: list[Entry]) -> None:
    wanted = sum(entry.status is RUNNING and not entry.leaving for entry in found)
    going = {step.id for step in count_steps(wanted, found, awake=True) if step.step is Step.DRAIN}
    assert not going & {entry.id for entry in found if entry.status is RUNNING}


@pytest.mark.parametrize(("ids", "expected"), [((), "1"), (("1",), "2"), (("2", "10", "9"), "11"), (("odd", "3"), "4")])
def test_next_id(ids: tuple[str, ...], expected: str) -> None:
    assert next_id(ids) == expected


POLICY = Policy(idle_s=60, drain_grace_s=30)


@pytest.mark.parametrize(
    ("quiet_s", "overdue_s", "successor", "expected"),
    [
        (0, -100, None, Fate.LIVE),
        (59.9, -100, None, Fate.LIVE),
        (60, -100, None, Fate.SLEEP),
        (60, 100, RUNNING, Fate.SLEEP),
        (0, 0, None, Fate.REPLACE),
        (4.9, 0, None, Fate.REPLACE),
        (5, 0, None, Fate.SLEEP),  # nobody used it lately: the next request wakes a fresh one
        (0, 1, STARTING, Fate.LIVE),
        (0, 1, FAILED, Fate.LIVE),
        (0, 1, RUNNING, Fate.END),
        (0, -1, RUNNING, Fate.END),
        (0, 29.9, STARTING, Fate.LIVE),
        (0, 30, STARTING, Fate.END),  # no age passes the lifespan plus the grace
        (0, 30, FAILED, Fate.END),
        (0, 30, None, Fate.END),
    ],
)
def test_fate(quiet_s: float, overdue_s: float, successor: Status | None, expected: Fate) -> None:
    assert fate(POLICY, quiet_s=quiet_s, overdue_s=overdue_s, successor=successor) is expected


@pytest.mark.parametrize(
    ("quiet_s", "overdue_s", "successor", "expected"),
    [
        (59, -100, None, Fate.LIVE),
        (60, -100, None, Fate.FREEZE),
        (60, 0, None, Fate.SLEEP),  # its lifespan is over
        (60, -100, FAILED, Fate.SLEEP),  # it was to be replaced: nobody will want it again
        (60, -100, RUNNING, Fate.SLEEP),
        (0, 0, None, Fate.REPLACE),
    ],
)
def test_fate_of_one_that_may_be_frozen(
    quiet_s: float, overdue_s: float, successor: Status | None, expected: Fate
) -> None:
    policy = Policy(idle_s=60, drain_grace_s=30, start=Start.FROZEN)
    assert fate(policy, quiet_s=quiet_s, overdue_s=overdue_s, successor=successor) is expected


@pytest.mark.parametrize(
    ("start", "overdue_s", "expected"),
    [
        (Start.FROZEN, -0.1, ""),
        (Start.FROZEN, 0, "its lifespan is over"),
        (Start.COLD, -0.1, "it is no longer to be frozen"),
        (Start.COLD, 0, "its lifespan is over"),
    ],
)
def test_end_of_a_frozen_one(start: Start, overdue_s: float, expected: str) -> None:
    assert end_of_frozen(Policy(start=start), overdue_s=overdue_s) == expected


@given(
    st.floats(0, 1000), st.floats(30, 10_000), st.sampled_from([None, *Status]), st.floats(0.1, 1000),
    st.sampled_from(Start),
)  # fmt: skip
def test_nothing_outlives_its_lifespan_and_grace(
    quiet_s: float, overdue_s: float, successor: Status | None, idle_s: float, start: Start
) -> None:
    policy = Policy(idle_s=idle_s, drain_grace_s=30, start=start)
    assert fate(policy, quiet_s=quiet_s, overdue_s=overdue_s, successor=successor) in (Fate.END, Fate.SLEEP)


@pytest.mark.parametrize(
    ("failures", "proven", "expected"),
    [
        (0, False, 0),
        (1, False, 1),
        (2, False, 2),
        (3, False, 4),
        (6, False, 32),
        (7, False, 60),
        (60, False, 60),
        (9, True, 0),
    ],
)
def test_backoff(failures: int, proven: bool, expected: float) -> None:
    assert backoff_s(failures, proven=proven) == expected


@given(st.integers(0, 10_000))
def test_backoff_never_ends_nor_overflows(failures: int) -> None:
    assert 0 <= backoff_s(failures, proven=False) <= BACKOFF_MAX_S


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 0.5), st.floats(1, 1e6))
def test_no_life_is_longer_than_its_lifespan_nor_shorter_than_the_jitter_allows(
    chance: float, jitter: float, lifespan: float
) -> None:
    policy = Policy(lifespan_s=lifespan, lifespan_jitter=jitter)
    assert lifespan * (1 - jitter) <= lifespan_s(policy, chance) <= lifespan


def test_everybody_names_the_same_acting_compute_in_whatever_order_he_knows_them() -> None:
    computes = [f"node{number}" for number in range(5)]
    for app in ("blog", "shop", "wiki"):
        assert acting_compute(app, computes) == acting_compute(app, reversed(computes))
    assert acting_compute("blog", []) is None


def test_apps_are_spread_and_only_those_of_a_lost_compute_change_hands() -> None:
    computes = [f"node{number}" for number in range(4)]
    acting = {f"app{number}": acting_compute(f"app{number}", computes) for number in range(400)}
    assert min(Counter(acting.values()).values()) > 60
    for app, before in acting.items():
        after = acting_compute(app, computes[1:])
        assert after == before or before == "node0"
