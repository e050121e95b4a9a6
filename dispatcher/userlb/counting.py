"""What the lanes are used for: what the agent is told of it, and which app uses its lane least. Pure."""

import math
from collections.abc import Mapping
from types import MappingProxyType

from dispatcher.userlb.lanes import Actual, Memory

HALF_LIFE_S = 10.0  # of a request in the measure of use
SETTLING_S = 5.0  # an app that has just got its lane is not the least used before that
WAITING_S = (
    30.0  # after which one that gave up its lane may push out another: without a lane nobody sees how much it is used
)


NOTHING: Mapping[str, int] = MappingProxyType({})


class Counts:
    """Requests in flight by life, and whether there were any since they were told last."""

    def __init__(self) -> None:
        self.in_flight: dict[str, int] = {}
        self.requests: dict[str, int] = {}  # given to each life since somebody emptied this
        self._totals: dict[str, int] = {}

    def take(self, actual: Actual, memory: Memory, elsewhere: Mapping[str, int] = NOTHING) -> dict[str, int]:
        """What the agent has to hear: lives that had requests, whatever they have now, and those whose count is another.
        `elsewhere`: what each has in flight in a HAProxy before this one."""
        slots = {life: actual.slots[id] for id, life in memory.lives.items() if id in actual.slots}
        now = {life: slot.in_flight for life, slot in slots.items() if slot.in_flight}
        now |= {life: now.get(life, 0) + count for life, count in elsewhere.items()}
        totals = {life: slot.total for life, slot in slots.items()}
        told = {life: now.get(life, 0) for life in {*now, *self.in_flight} if now.get(life) != self.in_flight.get(life)}
        for life, total in totals.items():
            if total > (before := self._totals.get(life, total)):
                told[life] = now.get(life, 0)
                self.requests[life] = self.requests.get(life, 0) + total - before
        self.in_flight, self._totals = now, totals
        return told


class Use:
    """Requests of each app in its lane, older ones counting less."""

    def __init__(self) -> None:
        self._requests: dict[str, float] = {}
        self._since: dict[str, float] = {}
        self._totals: dict[str, int] = {}
        self._at = 0.0

    def take(self, actual: Actual, memory: Memory, now: float) -> None:
        kept = 0.5 ** ((now - self._at) / HALF_LIFE_S)
        self._at = now
        totals: dict[str, int] = {}
        for id, slot in actual.slots.items():
            if app := memory.owners.get(id.lane):
                totals[app] = totals.get(app, 0) + slot.total
        self._requests = {
            app: self._requests.get(app, 0.0) * kept + max(0, total - self._totals.get(app, total))
            for app, total in totals.items()
        }
        self._since = {app: self._since.get(app, now) for app in totals}
        self._totals = totals

    def by_app(self, now: float) -> dict[str, float]:
        return {
            app: requests if now - self._since[app] >= SETTLING_S else math.inf
            for app, requests in self._requests.items()
        }


class Waiting:
    """Apps that gave up their lane, until they may have one at another's cost."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def keep(self, yielded: frozenset[str], now: float) -> frozenset[str]:
        """Those that have not waited long enough."""
        self._since = {app: self._since.get(app, now) for app in yielded}
        kept = frozenset(app for app, since in self._since.items() if now - since < WAITING_S)
        self._since = {app: self._since[app] for app in kept}
        return kept
