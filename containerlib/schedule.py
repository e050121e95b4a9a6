"""When timers are due. Pure: now is an argument, the caller sleeps.

    schedule = Schedule.start(spec.timers, now)
    due, schedule = schedule.due(now)        # each at most once, however late this is
    schedule.next_at()                       # None: no more

A repeating timer keeps to the times START + delay + N x interval: what runs late does not push later runs back, and times that
passed while nobody looked (a suspended machine, a stopped process) are skipped, not made up for.
"""

from dataclasses import dataclass, replace

from containerlib.hooks import Timer


@dataclass(frozen=True, slots=True)
class Entry:
    timer: Timer
    at: float
    left: int | None


@dataclass(frozen=True, slots=True)
class Schedule:
    entries: tuple[Entry, ...] = ()

    @classmethod
    def start(cls, timers: tuple[Timer, ...], now: float) -> "Schedule":
        return cls(tuple(Entry(timer, now + timer.delay_s, timer.limit) for timer in timers))

    def next_at(self) -> float | None:
        return min((entry.at for entry in self.entries), default=None)

    def due(self, now: float) -> tuple[tuple[Timer, ...], "Schedule"]:
        """Those whose time has come, the earliest first, and the schedule without them."""
        due = sorted((entry for entry in self.entries if entry.at <= now), key=lambda entry: entry.at)
        rest = (entry if entry.at > now else _after(entry, now) for entry in self.entries)
        return tuple(entry.timer for entry in due), Schedule(tuple(entry for entry in rest if entry))


def _after(entry: Entry, now: float) -> Entry | None:
    interval_s = entry.timer.interval_s
    left = None if entry.left is None else entry.left - 1
    if interval_s is None or left == 0:
        return None
    at = entry.at + ((now - entry.at) // interval_s + 1) * interval_s
    # Division rounds: a time that is not past would be due again at once.
    return replace(entry, at=at if at > now else at + interval_s, left=left)
