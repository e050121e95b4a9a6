import pytest

from dispatcher.compute import strategy
from dispatcher.compute.strategy import Host, Measured
from dispatcher.domain import Start

GIB = 1 << 30
ROOMY = Host(8 * GIB, 6 * GIB)
SMALL = 64 << 20


def measured(
    *cold_s: float, restored_s: tuple[float, ...] = (), freezes_failed: int = 0, images_failed: int = 0
) -> Measured:
    found = Measured()
    for took_s in cold_s:
        found.woke(Start.COLD, took_s)
    for took_s in restored_s:
        found.woke(Start.RESTORED, took_s)
    found.freezes_failed, found.images_failed = freezes_failed, images_failed
    return found


@pytest.mark.parametrize(
    ("wanted", "known", "host", "keeps_bytes", "start", "why"),
    [
        (Start.COLD, measured(9.0), ROOMY, SMALL, Start.COLD, ""),
        (Start.FROZEN, measured(0.01), Host(GIB, 0), GIB, Start.FROZEN, ""),
        (Start.AUTO, measured(), ROOMY, SMALL, Start.COLD, "not known yet"),
        (Start.AUTO, measured(0.04), ROOMY, SMALL, Start.COLD, "a cold start takes 0.04 s"),
        (Start.AUTO, measured(2.0), ROOMY, SMALL, Start.FROZEN, "takes 2.00 s, and the host has room for its 64 MiB"),
        (Start.AUTO, measured(2.0), Host(8 * GIB, 2 * GIB), SMALL, Start.COLD, "would leave the host 1984 MiB"),
        (Start.AUTO, measured(2.0), Host(8 * GIB, 2 * GIB), 0, Start.FROZEN, "room"),
        (Start.AUTO, measured(2.0, freezes_failed=1), ROOMY, SMALL, Start.COLD, "could not be frozen"),
        (Start.AUTO, measured(2.0, restored_s=(0.1,)), ROOMY, SMALL, Start.COLD, "one from its image takes 0.10 s"),
        (Start.AUTO, measured(2.0, restored_s=(0.1,), images_failed=2), ROOMY, SMALL, Start.FROZEN, "takes 2.00 s"),
        (Start.AUTO, measured(2.0, restored_s=(0.5,)), ROOMY, SMALL, Start.FROZEN, "takes 2.00 s"),
        # One start on a busy machine is not yet the rule, and what was long ago is forgotten.
        (Start.AUTO, measured(0.04, 3.0, 0.05), ROOMY, SMALL, Start.COLD, "0.05 s"),
        (Start.AUTO, measured(9.0, 9.0, 9.0, 0.1, 0.1, 0.1, 0.1, 0.1), ROOMY, SMALL, Start.COLD, "0.10 s"),
    ],
)
def test_how_an_app_rests(wanted: Start, known: Measured, host: Host, keeps_bytes: int, start: Start, why: str) -> None:
    choice = strategy.rest(wanted, known, host, keeps_bytes)
    assert choice.start is start
    assert why in choice.why
    assert bool(choice.why) is (wanted is Start.AUTO)


@pytest.mark.parametrize(
    ("wanted", "known", "start", "why"),
    [
        (Start.RESTORED, measured(0.01, restored_s=(9.0,), images_failed=9), Start.RESTORED, ""),
        (Start.COLD, measured(9.0), Start.COLD, ""),
        (Start.FROZEN, measured(9.0), Start.COLD, ""),
        (Start.AUTO, measured(), Start.COLD, "not known yet"),
        (Start.AUTO, measured(0.15), Start.COLD, "a cold start takes 0.15 s"),
        (Start.AUTO, measured(0.16), Start.RESTORED, "takes 0.16 s, and one from an image was not measured yet"),
        (Start.AUTO, measured(2.0, restored_s=(0.3,)), Start.RESTORED, "from its image takes 0.30 s"),
        (Start.AUTO, measured(0.4, restored_s=(0.33,)), Start.COLD, "takes 0.40 s, one from its image 0.33 s"),
        (Start.AUTO, measured(0.4, restored_s=(0.31,)), Start.RESTORED, "0.31 s"),
        (Start.AUTO, measured(2.0, images_failed=1), Start.RESTORED, ""),
        (Start.AUTO, measured(2.0, images_failed=2), Start.COLD, "failed 2 times in a row"),
        (Start.AUTO, measured(2.0, restored_s=(0.3,), images_failed=2), Start.COLD, "failed 2 times in a row"),
        # It was slow on a busy machine.
        (Start.AUTO, measured(2.0, restored_s=(9.0, 0.3, 0.3)), Start.RESTORED, "0.30 s"),
    ],
)
def test_how_an_app_that_was_stopped_begins(wanted: Start, known: Measured, start: Start, why: str) -> None:
    choice = strategy.wake(wanted, known)
    assert choice.start is start
    assert why in choice.why
    assert bool(choice.why) is (wanted is Start.AUTO)


@pytest.mark.parametrize(
    ("known", "start"),
    [
        (measured(2.0), Start.COLD),
        (measured(2.0, images_failed=2), Start.FROZEN),
        (measured(0.1), Start.COLD),
    ],
)
def test_one_that_an_image_can_be_taken_of_is_stopped_for_that(known: Measured, start: Start) -> None:
    choice = strategy.rest(Start.AUTO, known, ROOMY, SMALL, lacks_image=True)
    assert choice.start is start
    assert strategy.rest(Start.FROZEN, known, ROOMY, SMALL, lacks_image=True).start is Start.FROZEN


def test_a_restored_start_forgives_failures() -> None:
    known = measured(2.0, images_failed=1)
    known.woke(Start.COLD, 2.0)
    assert known.images_failed == 1
    known.woke(Start.RESTORED, 0.2)
    assert known.images_failed == 0


@pytest.mark.parametrize(
    ("kept_bytes", "host", "stopped"),
    [
        ({"a": 1, "b": 2}, ROOMY, None),
        ({"a": 1, "b": 2}, Host(8 * GIB, GIB), None),
        ({"a": 1, "b": 3, "c": 2}, Host(8 * GIB, GIB - 1), "b"),
        ({}, Host(8 * GIB, 0), None),
    ],
)
def test_a_host_that_runs_short_is_given_the_largest(
    kept_bytes: dict[str, int], host: Host, stopped: str | None
) -> None:
    assert strategy.to_stop(kept_bytes, host) == stopped
