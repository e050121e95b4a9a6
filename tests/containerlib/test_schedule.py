"""When timers are due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerlib.hooks import Moment, Timer
from containerlib.schedule import Schedule


def nothing(container: Moment) -> None: ...


def once(delay_s: float) -> Timer:
    return Timer(function=nothing, delay_s=delay_s)


def every(interval_s: float, limit: int | None = None, delay_s: float | None = None) -> Timer:
    return Timer(
        function=nothing, delay_s=interval_s if delay_s is None else delay_s, interval_s=interval_s, limit=limit
    )


def runs(schedule: Schedule, times: list[float]) -> list[int]:
    """How many timers were due at each of the times."""
    counts = []
    for now in times:
        due, schedule = schedule.due(now)
        counts.append(len(due))
    return counts


@pytest.mark.parametrize(
    ("timer", "times", "expected"),
    [
        (once(10), [109.9, 110, 110.1, 500], [0, 1, 0, 0]),
        (once(0), [100, 100], [1, 0]),
        (every(10), [109, 110, 119, 120, 130], [0, 1, 0, 1, 1]),
        (every(10, delay_s=1), [101, 110, 111], [1, 0, 1]),
        (every(10, limit=2), [110, 120, 130, 140], [1, 1, 0, 0]),
        # Late is late once: the next run is not pushed back.
        (every(10), [114, 119, 120], [1, 0, 1]),
        # A pause of a hundred intervals: one run, not a hundred, and the rhythm is what it was.
        (every(10), [110, 1115, 1115, 1119, 1120], [1, 1, 0, 0, 1]),
        # What was skipped does not count against the limit.
        (every(10, limit=2), [1115, 1120, 1130], [1, 1, 0]),
    ],
)
def test_is_due(timer: Timer, times: list[float], expected: list[int]) -> None:
    assert runs(Schedule.start((timer,), 100), times) == expected


def test_those_that_are_due_come_by_their_time() -> None:
    late, early = once(5), once(3)
    due, rest = Schedule.start((late, early, once(50)), 0).due(10)
    assert due == (early, late)
    assert rest.next_at() == 50


def test_the_next_time() -> None:
    schedule = Schedule.start((once(5), every(3)), 100)
    assert schedule.next_at() == 103
    assert Schedule().next_at() is None
    assert schedule.due(105)[1].next_at() == 106


@given(st.floats(0.1, 1e6), st.floats(0, 1e9), st.floats(0, 1e9))
def test_what_was_due_is_next_in_the_future_and_within_one_interval(
    interval_s: float, start: float, wait_s: float
) -> None:
    now = start + interval_s + wait_s
    due, rest = Schedule.start((every(interval_s),), start).due(now)
    assert len(due) == 1
    following = rest.next_at()
    assert following is not None
    assert now < following <= now + interval_s * 1.001 + 1e-6
