"""Response times as counts in buckets that grow by a fifth: a quantile is right to a tenth of itself. Pure."""

import math
from collections.abc import Iterable

from dispatcher.compute.protocol import Digest

GROWTH = 1.2
KEPT = 60  # of one life: a minute


def bucket(ms: float) -> int:
    """Below a millisecond all is one."""
    return 0 if ms < 1 else 1 + int(math.log(ms, GROWTH))


def quantile(digests: Iterable[Digest], share: float) -> float | None:
    """Milliseconds that so many of the responses did not exceed; None if there were none. `share`: 0 to 1."""
    counts: dict[int, int] = {}
    for digest in digests:
        for number, count in digest.buckets.items():
            # Each second counts as much as it had requests, however few of them were measured.
            counts[number] = counts.get(number, 0) + count * max(1, round(digest.requests / digest.measured))
    left = math.ceil(share * sum(counts.values()))
    for number in sorted(counts):
        left -= counts[number]
        if left <= 0:
            return 0.5 if number == 0 else GROWTH ** (number - 0.5)
    return None
