"""Rest after failures, by a clock of our own."""

from dispatcher.compute.failures import KEPT_S, Failures
from dispatcher.compute.reconcile import PROVEN_AFTER_S


def test_one_that_never_listens_rests_longer_each_time() -> None:
    failures = Failures()
    assert [failures.record("blog", "1", "why", ran_s=0, now=0) for _ in range(4)] == [1, 2, 4, 8]
    assert failures.is_resting("blog", "1", 7.9)
    assert not failures.is_resting("blog", "1", 8)
    assert not failures.is_resting("blog", "2", 0)


def test_one_that_ran_a_little_may_start_again_at_once_the_first_time_only() -> None:
    failures = Failures()
    assert [failures.record("blog", "1", "died", ran_s=1, now=0) for _ in range(3)] == [0, 2, 4]


def test_one_that_had_proven_itself_may_always_start_again_at_once() -> None:
    failures = Failures()
    assert [failures.record("blog", "1", "died", ran_s=PROVEN_AFTER_S, now=0) for _ in range(5)] == [0] * 5
    assert failures.record("blog", "1", "never listens", ran_s=0, now=0) == 2


def test_of_those_that_rest_the_first_to_be_ready_is_named() -> None:
    failures = Failures()
    failures.record("blog", "1", "one", ran_s=0, now=0)
    failures.record("blog", "1", "one again", ran_s=0, now=0)
    failures.record("blog", "2", "two", ran_s=0, now=0)
    assert failures.first_rested("blog", ["1", "2"]).reason == "two"


def test_a_new_definition_is_forgiven_the_old_ones_failures() -> None:
    failures = Failures()
    for app in ("blog", "shop"):
        failures.record(app, "1", "why", ran_s=0, now=0)
    failures.forgive("blog")
    assert not failures.is_resting("blog", "1", 0)
    assert failures.is_resting("shop", "1", 0)
    assert failures.record("blog", "1", "why", ran_s=0, now=0) == 1


def test_what_has_rested_is_told_and_in_the_end_forgotten() -> None:
    failures = Failures()
    assert not failures
    failures.record("blog", "1", "why", ran_s=0, now=0)
    assert failures.rested(0.5) == []
    assert failures.rested(1) == [("blog", "1")]
    assert failures.rested(1 + KEPT_S) == [("blog", "1")]
    assert not failures
    assert failures.rested(1 + KEPT_S) == []


def test_one_that_was_forgiven_is_told_to_have_rested_before_it_is_forgotten() -> None:
    failures = Failures()
    failures.record("blog", "1", "why", ran_s=0, now=5000)
    failures.forgive("blog")
    assert failures.rested(5000) == [("blog", "1")]


def test_a_stop_that_was_meant_wipes_the_slate() -> None:
    failures = Failures()
    failures.record("blog", "1", "why", ran_s=0, now=0)
    failures.forget("blog", "1")
    failures.forget("blog", "1")
    assert not failures
