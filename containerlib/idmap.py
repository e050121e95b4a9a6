"""Which ids a container's user namespace has, and what they are outside. Pure, standard library only (the blank reads it).

An app owns IDS consecutive ids on the host, from its base. Its own user is APP_USER inside and the base itself outside, so that
content that the app may write belongs to one id that a person can name; root and the users of the distribution's packages come
after it.
"""

from dataclasses import dataclass

IDS = 1024  # of an app, on the host
APP_USER = 1000
NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Extent:
    inside: int
    outside: int
    count: int


def extents(base: int) -> tuple[Extent, ...]:
    return (
        Extent(APP_USER, base, 1),
        Extent(0, base + 1, APP_USER),
        Extent(NOBODY, base + 1 + APP_USER, 1),
        Extent(APP_USER + 1, base + 2 + APP_USER, IDS - 2 - APP_USER),
    )


def map_text(base: int) -> str:
    """What /proc/PID/uid_map and gid_map are told."""
    return "".join(f"{each.inside} {each.outside} {each.count}\n" for each in extents(base))


def outside(base: int, inside: int) -> int:
    """An id of the container's as the host numbers it. Raises ValueError for one that it has not."""
    for each in extents(base):
        if each.inside <= inside < each.inside + each.count:
            return each.outside + inside - each.inside
    raise ValueError(f"id {inside} is not one of a container's")
