"""Which containers failed lately, how often in a row, and how long they rest. Pure: the clock is an argument."""

from collections.abc import Iterable
from dataclasses import dataclass

from dispatcher.compute import reconcile

KEPT_S = 600.0  # after the rest: a failure later than that begins a new row


@dataclass(slots=True)
class Failure:
    count: int
    rest_until: float
    reason: str


class Failures:
    def __init__(self) -> None:
        self._failures: dict[tuple[str, str], Failure] = {}

    def __bool__(self) -> bool:
        return bool(self._failures)

    def record(self, app: str, id: str, reason: str, *, ran_s: float, now: float) -> float:
        """`ran_s`: how long it had been running, 0 for one that never did. Returns how long it rests."""
        proven = ran_s >= reconcile.PROVEN_AFTER_S
        failure = self._failures.setdefault((app, id), Failure(0, 0.0, ""))
        failure.count = 1 if proven else failure.count + 1
        # What ran is started again at once, the first time: its clients are waiting.
        rest_s = reconcile.backoff_s(failure.count, proven=proven or (ran_s > 0 and failure.count == 1))
        failure.rest_until, failure.reason = now + rest_s, reason
        return rest_s

    def is_resting(self, app: str, id: str, now: float) -> bool:
        failure = self._failures.get((app, id))
        return failure is not None and failure.rest_until > now

    def first_rested(self, app: str, ids: Iterable[str]) -> Failure:
        """Of containers that all rest, the one whose rest ends first."""
        return min((self._failures[app, id] for id in ids), key=lambda failure: failure.rest_until)

    def forget(self, app: str, id: str) -> None:
        self._failures.pop((app, id), None)

    def forgive(self, app: str) -> None:
        """A new definition deserves a start at once."""
        for (name, _), failure in self._failures.items():
            if name == app:
                failure.count, failure.rest_until = 0, 0.0

    def rested(self, now: float) -> list[tuple[str, str]]:
        """Those that may be tried again. Forgets what is long past."""
        rested = [name for name, failure in self._failures.items() if failure.rest_until <= now]
        for name in rested:  # told at least once, even when it was forgiven
            if self._failures[name].rest_until + KEPT_S <= now:
                del self._failures[name]
        return rested
