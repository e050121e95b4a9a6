"""What a Compute does about its containers, decided from what is wanted and what there is. Pure.

`count_steps` brings the number of rows to what is asked, `fate` says what becomes of a running container at a moment,
`backoff_s` how long one that failed rests.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dispatcher.domain import Policy, Start, Status

BACKOFF_FIRST_S, BACKOFF_MAX_S = 1.0, 60.0
MAY_FREEZE = (Start.FROZEN, Start.AUTO)
# A life at least this long says that the site can run; what killed it then is no start failure.
PROVEN_AFTER_S = 10.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One container as it counts: `leaving` marks one whose row will go, its successor being on its way or not needed."""

    id: str
    status: Status
    leaving: bool = False


class Step(StrEnum):
    REGISTER = "register"
    REMOVE = "remove"
    DRAIN = "drain"
    START = "start"


@dataclass(frozen=True, slots=True)
class CountStep:
    step: Step
    id: str


def next_id(ids: Iterable[str]) -> str:
    """Ids count up, so that a successor's logs and events are never taken for its predecessor's."""
    return str(max((int(word) for word in ids if word.isdigit()), default=0) + 1)


# Who goes first when there are too many: what goes anyway, what does not work, what sleeps; then of those that run the oldest,
# which is also the one whose successor a former agent may have started.
_GOING_ORDER = {
    status: number
    for number, status in enumerate(
        (Status.DRAINING, Status.FAILED, Status.REGISTERED, Status.FROZEN, Status.STARTING, Status.RUNNING)
    )
}


def count_steps(wanted: int, entries: Sequence[Entry], *, awake: bool) -> tuple[CountStep, ...]:
    """An awake app has all of its containers running; a sleeping one has them registered."""
    counted = [entry for entry in entries if not entry.leaving]
    steps: list[CountStep] = []
    ids = [entry.id for entry in entries]
    for _ in range(wanted - len(counted)):
        ids.append(next_id(ids))
        steps.append(CountStep(Step.REGISTER, ids[-1]))
        if awake:
            steps.append(CountStep(Step.START, ids[-1]))
    surplus = max(0, len(counted) - wanted)
    going = sorted(counted, key=_going_order)[:surplus]
    for entry in going:
        steps.append(CountStep(Step.DRAIN if entry.status.is_alive() else Step.REMOVE, entry.id))
    if awake:
        staying = [entry for entry in counted if entry not in going]
        steps += [CountStep(Step.START, entry.id) for entry in staying if entry.status is Status.REGISTERED]
    return tuple(steps)


def _going_order(entry: Entry) -> tuple[int, int]:
    number = int(entry.id)
    return _GOING_ORDER[entry.status], number if entry.status is Status.RUNNING else -number


class Fate(StrEnum):
    LIVE = "live"
    FREEZE = "freeze"  # silence, and its app may keep its memory meanwhile
    SLEEP = "sleep"  # silence: drain it, and leave its row
    REPLACE = "replace"  # old, and in use: a successor first
    END = "end"  # its successor listens, or it is old and its time after that is over too


def fate(policy: Policy, *, quiet_s: float, overdue_s: float, successor: Status | None) -> Fate:
    """`quiet_s`: how long nothing was in flight in the whole app; `overdue_s`: age beyond the lifespan, negative before;
    `successor`: the state of the container that is to replace this one, None if there is none yet."""
    if quiet_s >= policy.idle_s:
        # One that is to be replaced will not be needed any more, and one that is too old may not stay for it.
        freezes = policy.start in MAY_FREEZE and successor is None and overdue_s < 0
        return Fate.FREEZE if freezes else Fate.SLEEP
    if successor is Status.RUNNING:
        return Fate.END
    if overdue_s < 0:
        return Fate.LIVE
    if overdue_s >= policy.drain_grace_s:
        return Fate.END
    if successor is None:
        # What nobody has used for a while needs no successor: the next request starts one.
        return Fate.SLEEP if quiet_s >= min(policy.idle_s, 5.0) else Fate.REPLACE
    return Fate.LIVE


def end_of_frozen(policy: Policy, *, overdue_s: float) -> str:
    """Why a frozen container is to be stopped; empty if it is not. Its lifespan runs on."""
    if overdue_s >= 0:
        return "its lifespan is over"
    return "" if policy.start in MAY_FREEZE else "it is no longer to be frozen"


def lifespan_s(policy: Policy, chance: float) -> float:
    """`chance` in [0, 1): containers started together do not end together, and none lives longer than its lifespan."""
    return policy.lifespan_s * (1 - policy.lifespan_jitter * chance)


def backoff_s(failures: int, *, proven: bool) -> float:
    """After the `failures`-th failure in a row. One that had proven itself may start again at once, the first time."""
    if proven or failures == 0:
        return 0.0
    doublings = min(failures - 1, 16)  # a site that fails for days must not overflow a float
    return float(min(BACKOFF_FIRST_S * 2**doublings, BACKOFF_MAX_S))


def acting_compute(app: str, computes: Iterable[str]) -> str | None:
    """Who carries out a hand edit of this app: the same for everybody who asks (rendezvous hash)."""
    return max(computes, key=lambda name: hashlib.sha256(f"{app}\0{name}".encode()).digest(), default=None)
