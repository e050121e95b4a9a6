"""An app's range of user ids: allocated once, the same on every Compute, never shared by two apps.

A claim is a key uids/BASE = APP, made only if absent, so two creates at once cannot get one range. The name says where to begin
looking: an app that is removed and created again finds its old range, and its files their owner. A claim outlives its app: only
when every range is claimed are those of removed apps taken over, for files of theirs may still lie about.
"""

import zlib
from collections.abc import Container, Mapping

from dispatcher.domain import UID_FIRST, UID_LAST

UIDS_OF_APP = 65536
RANGES = (UID_LAST - UID_FIRST + 1) // UIDS_OF_APP


def preferred_base(app: str) -> int:
    return UID_FIRST + zlib.crc32(app.encode()) % RANGES * UIDS_OF_APP


def choose_base(app: str, claims: Mapping[int, str], apps: Container[str]) -> int | None:
    """The app's own range if it has one, else the next free one after the preferred, else one whose app is gone, else None."""
    first = (preferred_base(app) - UID_FIRST) // UIDS_OF_APP
    bases = [UID_FIRST + (first + step) % RANGES * UIDS_OF_APP for step in range(RANGES)]
    own = next((base for base in bases if claims.get(base) == app), None)
    if own is not None:
        return own
    free = next((base for base in bases if base not in claims), None)
    return free if free is not None else next((base for base in bases if claims[base] not in apps), None)
