"""How an app comes back from sleep, decided from how long that took so far. Pure.

    measured = Measured(); measured.woke(Start.COLD, 2.1)
    rest(Start.AUTO, measured, host, keeps_bytes)    # when it falls silent: frozen, or stopped

`auto` begins cold, measures, and takes what is dearer only where it pays: a frozen process costs its memory.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from dispatcher.domain import Start

KEPT = 5  # wakes of each kind that count: an app is changed, and a machine is busy now and then
FAST_S = 0.15  # a cold start as quick as this is hardly noticed, and costs nothing while the app sleeps
FREE_SHARE = 0.25  # of the host's memory that frozen apps of `auto` leave available
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Host:
    memory_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class Choice:
    start: Start
    why: str = ""  # where the policy leaves the choice


@dataclass(slots=True)
class Measured:
    """Of one app, on this Compute. Seconds from the question to its readiness."""

    wakes: dict[Start, deque[float]] = field(default_factory=dict)
    freezes_failed: int = 0

    def woke(self, how: Start, took_s: float) -> None:
        self.wakes.setdefault(how, deque(maxlen=KEPT)).append(took_s)

    def typical_s(self, how: Start) -> float | None:
        wakes: Sequence[float] = self.wakes.get(how, ())
        return median(wakes) if wakes else None


def rest(wanted: Start, measured: Measured, host: Host, keeps_bytes: int) -> Choice:
    """Frozen, or cold for stopped. `keeps_bytes`: what it would keep of the host's memory."""
    if wanted is not Start.AUTO:
        return Choice(Start.FROZEN if wanted is Start.FROZEN else Start.COLD)
    if (quick := _quick(measured)) is not None:
        return Choice(Start.COLD, quick)
    if measured.typical_s(Start.COLD) is None:
        return Choice(Start.COLD, "how long a cold start takes is not known yet")
    if measured.freezes_failed:
        return Choice(Start.COLD, "it could not be frozen before")
    left = host.available_bytes - keeps_bytes
    if left < host.memory_bytes * FREE_SHARE:
        return Choice(Start.COLD, f"its {keeps_bytes // _MIB} MiB would leave the host {left // _MIB} MiB")
    return Choice(Start.FROZEN, f"{_cold(measured)}, and the host has room for its {keeps_bytes // _MIB} MiB")


def to_stop(kept_bytes: Mapping[str, int], host: Host) -> str | None:
    """Of frozen apps, by name: the one that gives most, once the host has only half of what it was to be left."""
    is_short = host.available_bytes < host.memory_bytes * FREE_SHARE / 2
    return max(kept_bytes, key=lambda app: kept_bytes[app], default=None) if is_short else None


def _quick(measured: Measured) -> str | None:
    cold_s = measured.typical_s(Start.COLD)
    return f"a cold start takes {cold_s:.2f} s" if cold_s is not None and cold_s <= FAST_S else None


def _cold(measured: Measured) -> str:
    return f"a cold start takes {measured.typical_s(Start.COLD):.2f} s"
