from hypothesis import given
from hypothesis import strategies as st

from dispatcher.coreapi.uids import RANGES, UIDS_OF_APP, choose_base, preferred_base
from dispatcher.domain import UID_FIRST, UID_LAST

EVERY_BASE = [UID_FIRST + number * UIDS_OF_APP for number in range(RANGES)]


@given(st.text(min_size=1))
def test_the_preferred_range_lies_within_bounds(app: str) -> None:
    base = preferred_base(app)
    assert base >= UID_FIRST and base + UIDS_OF_APP - 1 <= UID_LAST
    assert (base - UID_FIRST) % UIDS_OF_APP == 0
    assert preferred_base(app) == base


def test_own_then_free_then_that_of_a_removed_app() -> None:
    first = preferred_base("blog")
    second = EVERY_BASE[(EVERY_BASE.index(first) + 1) % RANGES]
    assert choose_base("blog", {}, set()) == first
    assert choose_base("blog", {first: "shop"}, {"shop"}) == second
    assert choose_base("blog", {first: "gone"}, set()) == second
    assert choose_base("blog", {first: "shop", EVERY_BASE[7]: "blog"}, {"shop"}) == EVERY_BASE[7]


def test_the_last_range_wraps_round() -> None:
    taken = dict.fromkeys(EVERY_BASE, "shop")
    del taken[EVERY_BASE[0]]
    assert choose_base("blog", taken, {"shop"}) == EVERY_BASE[0]


def test_when_all_are_claimed() -> None:
    claims = dict.fromkeys(EVERY_BASE, "shop")
    assert choose_base("blog", claims, {"shop"}) is None
    assert choose_base("blog", claims | {EVERY_BASE[9]: "gone"}, {"shop"}) == EVERY_BASE[9]
