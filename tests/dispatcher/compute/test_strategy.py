import pytest

from dispatcher.compute import strategy
from dispatcher.compute.strategy import Host, Measured
from dispatcher.domain import Start

GIB = 1 << 30
ROOMY = Host(8 * GIB, 6 * GIB)
SMALL = 64 << 20


def measured(*cold_s: float, freezes_failed: int = 0) -> Measured:
    found = Measured(freezes_failed=freezes_failed)
    for took_s in cold_s:
        found.woke(Start.COLD, took_s)
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
