import math
from dataclasses import replace

from dispatcher.userlb.counting import SETTLING_S, WAITING_S, Counts, Use, Waiting
from dispatcher.userlb.lanes import Actual, Memory, Slot, SlotId

ID = SlotId("lane0", 0)
MEMORY = Memory({"lane0": "blog"}, {ID: "blog/1.1"})
IDLE = Slot("10.0.0.1:80", 8, is_open=True, total=5)


def actual(**changes: int) -> Actual:
    return Actual(slots={ID: replace(IDLE, **changes)})


def test_the_agent_hears_of_what_was_and_of_what_is() -> None:
    counts = Counts()
    assert counts.take(actual(), MEMORY) == {}  # what was before us we do not know
    assert counts.take(actual(total=6), MEMORY) == {"blog/1.1": 0}
    assert counts.take(actual(total=6), MEMORY) == {}
    assert counts.take(actual(total=8, in_flight=2), MEMORY) == {"blog/1.1": 2}
    assert counts.take(actual(total=8, in_flight=2), MEMORY) == {}
    assert counts.requests == {"blog/1.1": 3}
    assert counts.in_flight == {"blog/1.1": 2}
    assert counts.take(actual(total=8), Memory()) == {"blog/1.1": 0}  # the slot is another's
    assert counts.in_flight == {}


def test_use_counts_recent_requests_and_spares_the_new() -> None:
    use = Use()
    use.take(actual(), MEMORY, 100.0)
    assert use.by_app(100.0) == {"blog": math.inf}
    later = 100.0 + SETTLING_S
    use.take(actual(total=15), MEMORY, later)
    assert use.by_app(later) == {"blog": 10.0}
    use.take(actual(total=15), MEMORY, later + 10)
    assert use.by_app(later + 10) == {"blog": 5.0}
    use.take(actual(total=1), MEMORY, later + 10)  # HAProxy began anew
    assert use.by_app(later + 10) == {"blog": 5.0}
    use.take(Actual(), Memory(), later + 10)
    assert use.by_app(later + 10) == {}


def test_who_gave_up_its_lane_may_ask_again_after_a_while() -> None:
    waiting = Waiting()
    assert waiting.keep(frozenset({"blog"}), 100.0) == {"blog"}
    assert waiting.keep(frozenset({"blog", "shop"}), 100.0 + WAITING_S - 1) == {"blog", "shop"}
    assert waiting.keep(frozenset({"blog", "shop"}), 100.0 + WAITING_S) == {"shop"}
    assert waiting.keep(frozenset({"blog", "shop"}), 100.0 + WAITING_S + 1) == {"blog", "shop"}  # pushed out once more
    assert waiting.keep(frozenset(), 200.0) == frozenset()
