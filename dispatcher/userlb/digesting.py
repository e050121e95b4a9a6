"""Response times of the lanes, digested by life and second. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatcher.compute.digest import bucket
from dispatcher.compute.protocol import Digest
from dispatcher.userlb.lines import Line


@dataclass(slots=True)
class _Second:
    measured: int = 0
    queued: int = 0
    failed: int = 0
    total_ms: int = 0
    buckets: dict[int, int] = field(default_factory=dict)


class Digests:
    def __init__(self) -> None:
        self._seconds: dict[str, _Second] = {}

    def take(self, line: Line, life: str) -> None:
        second = self._seconds.get(life)
        if second is None:
            second = self._seconds[life] = _Second()
        second.measured += 1
        second.queued += line.queue_ms > 0
        if line.response_ms < 0:
            second.failed += line.outcome != "client_left"
            return
        second.failed += line.end == "SD"
        ms = line.connect_ms + line.response_ms
        second.total_ms += ms
        number = bucket(ms)
        second.buckets[number] = second.buckets.get(number, 0) + 1

    def close(self, requests: Mapping[str, int], at: float) -> dict[str, Digest]:
        """Of the second that ends now. `requests`: by life, as HAProxy counted them, whether it could tell of each or not."""
        seconds, self._seconds = self._seconds, {}
        none = _Second()
        found = {}
        for life in {*seconds, *requests}:
            s = seconds.get(life, none)
            count = max(requests.get(life, 0), s.measured)
            if count:
                found[life] = Digest(at, count, s.measured, s.queued, s.failed, s.total_ms, s.buckets)
        return found
