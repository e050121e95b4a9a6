"""The state machine of a container. Everything that affects its state is in this file.

                start            listening           drain             exited
    registered ------> starting ----------> running --------> draining -------> registered
        ^                 | |                | | ^             ^  ^
        |          failed | '--- drain ------|-|-|-------------'  |
        |                 v       exited     | | | thaw           |
        '---- rested --- failed <------------' | |                | drain
                          ^                    v |                |
                          '----- exited ------ frozen ------------'

An event that the table does not know in a state raises, and nothing has changed.
"""

from enum import StrEnum

from dispatcher.domain import Status


class Event(StrEnum):
    START = "start"
    LISTENING = "listening"
    FAILED = "failed"  # it ended, or its time was over, before it listened
    FREEZE = "freeze"
    THAW = "thaw"
    DRAIN = "drain"
    EXITED = "exited"
    RESTED = "rested"  # the back-off is over


TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.REGISTERED, Event.START): Status.STARTING,
    (Status.STARTING, Event.LISTENING): Status.RUNNING,
    (Status.STARTING, Event.FAILED): Status.FAILED,
    (Status.STARTING, Event.DRAIN): Status.DRAINING,
    (Status.RUNNING, Event.DRAIN): Status.DRAINING,
    (Status.RUNNING, Event.EXITED): Status.FAILED,
    (Status.RUNNING, Event.FREEZE): Status.FROZEN,
    (Status.FROZEN, Event.THAW): Status.RUNNING,
    (Status.FROZEN, Event.DRAIN): Status.DRAINING,
    (Status.FROZEN, Event.EXITED): Status.FAILED,
    (Status.DRAINING, Event.EXITED): Status.REGISTERED,
    (Status.FAILED, Event.RESTED): Status.REGISTERED,
    (Status.FAILED, Event.START): Status.STARTING,
}


class IllegalTransition(Exception):
    """A programmer's error: the caller did not look at the state it was in."""


def after(status: Status, event: Event) -> Status:
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise IllegalTransition(f"{event} while {status}") from None
