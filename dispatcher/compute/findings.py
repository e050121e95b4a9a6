"""What one check of `fastcontainer doctor` found."""

from enum import StrEnum

import msgspec


class State(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"  # works, less well
    MISSING = "missing"  # does not work without


class Finding(msgspec.Struct, frozen=True):
    state: State
    what: str
    found: str
    remedy: str = ""


def ok(what: str, found: str) -> Finding:
    return Finding(State.OK, what, found)


def degraded(what: str, found: str, remedy: str) -> Finding:
    return Finding(State.DEGRADED, what, found, remedy)


def missing(what: str, found: str, remedy: str) -> Finding:
    return Finding(State.MISSING, what, found, remedy)
