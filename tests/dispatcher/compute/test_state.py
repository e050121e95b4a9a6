"""The whole table: every state with every event."""

import itertools

import pytest

from dispatcher.compute.state import TRANSITIONS, Event, IllegalTransition, after
from dispatcher.domain import Status

LEGAL = [
    (Status.REGISTERED, Event.START, Status.STARTING),
    (Status.STARTING, Event.LISTENING, Status.RUNNING),
    (Status.STARTING, Event.FAILED, Status.FAILED),
    (Status.STARTING, Event.DRAIN, Status.DRAINING),
    (Status.RUNNING, Event.DRAIN, Status.DRAINING),
    (Status.RUNNING, Event.EXITED, Status.FAILED),
    (Status.RUNNING, Event.FREEZE, Status.FROZEN),
    (Status.FROZEN, Event.THAW, Status.RUNNING),
    (Status.FROZEN, Event.DRAIN, Status.DRAINING),
    (Status.FROZEN, Event.EXITED, Status.FAILED),
    (Status.DRAINING, Event.EXITED, Status.REGISTERED),
    (Status.FAILED, Event.RESTED, Status.REGISTERED),
    (Status.FAILED, Event.START, Status.STARTING),
]
ILLEGAL = [
    (status, event)
    for status, event in itertools.product(Status, Event)
    if (status, event) not in {(legal, each) for legal, each, _ in LEGAL}
]


@pytest.mark.parametrize(("status", "event", "expected"), LEGAL)
def test_legal(status: Status, event: Event, expected: Status) -> None:
    assert after(status, event) is expected


@pytest.mark.parametrize(("status", "event"), ILLEGAL)
def test_illegal_raises_and_names_both(status: Status, event: Event) -> None:
    with pytest.raises(IllegalTransition, match=f"{event} while {status}"):
        after(status, event)


def test_the_table_holds_nothing_else() -> None:
    assert len(TRANSITIONS) == len(LEGAL)


def test_sleep_is_reached_from_everywhere() -> None:
    for status in Status:
        reached = {status}
        while more := {to for (frm, _), to in TRANSITIONS.items() if frm in reached} - reached:
            reached |= more
        assert Status.REGISTERED in reached
