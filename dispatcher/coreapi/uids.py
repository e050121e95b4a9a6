"""An app's range of user ids: allocated once, the same on every Compute, never shared by two apps.

A claim is a key uids/BASE = APP, made only if absent, so two creates at once cannot get one range. The name says where to begin
looking: an app that is removed and created again finds its old range, and its files their owner. A claim outlives its app; only
when none near is free is one of a removed app taken over, for files of that app may still lie about.
"""

import zlib
from collections.abc import Iterator

from dispatcher.domain import UID_FIRST, UID_LAST

UIDS_OF_APP = 1024  # for close to two million apps; `nobody` (65534) can be mapped into it by an extent of its own
RANGES = (UID_LAST - UID_FIRST + 1) // UIDS_OF_APP
PROBES_MAX = 256  # with nine of ten ranges taken, one app in 10^11 finds none free


def bases(app: str) -> Iterator[int]:
    """Where to look for its range, in order: claims never go, so an app's own one comes before the first free one."""
    first = zlib.crc32(app.encode())
    return (UID_FIRST + (first + step) % RANGES * UIDS_OF_APP for step in range(PROBES_MAX))
