"""Where an app's range of user ids is looked for."""

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.coreapi.uids import PROBES_MAX, RANGES, UIDS_OF_APP, bases
from dispatcher.domain import UID_FIRST, UID_LAST


@given(st.from_regex(r"[a-z0-9]{1,63}", fullmatch=True))
def test_bases_are_whole_ranges_inside_the_bounds_and_differ(app: str) -> None:
    found = list(bases(app))
    assert len(set(found)) == PROBES_MAX
    assert all(base >= UID_FIRST and base + UIDS_OF_APP - 1 <= UID_LAST for base in found)
    assert all((base - UID_FIRST) % UIDS_OF_APP == 0 for base in found)


def test_the_name_alone_says_where() -> None:
    assert list(bases("blog")) == list(bases("blog"))
    assert next(bases("blog")) != next(bases("shop"))


def test_a_million_apps_find_room() -> None:
    assert RANGES > 1_900_000
