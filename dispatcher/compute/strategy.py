"""How an app comes back from sleep, decided from how long that took so far. Pure.

    measured = Measured(); measured.woke(Start.COLD, 2.1)
    rest(Start.AUTO, measured, host, keeps_bytes)    # when it falls silent: frozen, or stopped
    wake(Start.AUTO, measured)                       # when it was stopped: cold, or from an image of its processes

`auto` begins cold, measures, and takes what is dearer only where it pays: a frozen process costs its memory, one from an image a
cold start that is made for taking that, and CRIU while somebody waits. A cold start that is slow is followed by one that an image
is taken of, and that by one from the image, whose time then counts.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from dispatcher.domain import Start

KEPT = 5  # wakes of each kind that count: an app is changed, and a machine is busy now and then
FAST_S = 0.15  # a cold start as quick as this is hardly noticed, and costs nothing while the app sleeps
GAIN = 0.8  # of a cold start's time: what a restored one may take at most to be worth it
IMAGES_FAILED_MAX = 2  # in a row: one may be by a library that was changed
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
    images_failed: int = 0  # in a row, to be taken or to be restored

    def woke(self, how: Start, took_s: float) -> None:
        if how is Start.RESTORED:
            self.images_failed = 0
        self.wakes.setdefault(how, deque(maxlen=KEPT)).append(took_s)

    def typical_s(self, how: Start) -> float | None:
        wakes: Sequence[float] = self.wakes.get(how, ())
        return median(wakes) if wakes else None


def rest(wanted: Start, measured: Measured, host: Host, keeps_bytes: int, *, lacks_image: bool = False) -> Choice:
    """Frozen, or cold for stopped. `keeps_bytes`: what it would keep of the host's memory. `lacks_image`: it leaves one if it is
    stopped."""
    if wanted is not Start.AUTO:
        return Choice(Start.FROZEN if wanted is Start.FROZEN else Start.COLD)
    if (quick := _quick(measured)) is not None:
        return Choice(Start.COLD, quick)
    if lacks_image and not _fails(measured):
        return Choice(Start.COLD, f"{_cold(measured)}, and how long one from an image would is to be seen")
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


def wake(wanted: Start, measured: Measured) -> Choice:
    """Restored, or cold. Restored, and no image yet: it is started cold, in a way that one can be taken of it."""
    if wanted is not Start.AUTO:
        return Choice(Start.RESTORED if wanted is Start.RESTORED else Start.COLD)
    cold_s, restored_s = measured.typical_s(Start.COLD), measured.typical_s(Start.RESTORED)
    if cold_s is None:
        return Choice(Start.COLD, "how long a cold start takes is not known yet")
    if cold_s <= FAST_S:
        return Choice(Start.COLD, _cold(measured))
    if _fails(measured):
        return Choice(Start.COLD, f"its image failed {measured.images_failed} times in a row")
    if restored_s is None:
        return Choice(Start.RESTORED, f"{_cold(measured)}, and one from an image was not measured yet")
    if restored_s > cold_s * GAIN:
        return Choice(Start.COLD, f"{_cold(measured)}, one from its image {restored_s:.2f} s")
    return Choice(Start.RESTORED, f"one from its image takes {restored_s:.2f} s; {_cold(measured)}")


def _fails(measured: Measured) -> bool:
    return measured.images_failed >= IMAGES_FAILED_MAX


def _quick(measured: Measured) -> str | None:
    """Which start is quick enough to keep no memory for another."""
    cold_s, restored_s = measured.typical_s(Start.COLD), measured.typical_s(Start.RESTORED)
    if cold_s is not None and cold_s <= FAST_S:
        return _cold(measured)
    if restored_s is not None and restored_s <= FAST_S and not _fails(measured):
        return f"one from its image takes {restored_s:.2f} s"
    return None


def _cold(measured: Measured) -> str:
    return f"a cold start takes {measured.typical_s(Start.COLD):.2f} s"
