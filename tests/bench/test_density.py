import pytest

from bench import density
from bench.density import Measured


def test_the_program_is_not_the_platforms_and_both_ends_of_the_run_are_compared() -> None:
    start_ms = [9.0] * 4 + [2.0] * 10 + [5.0] * 100 + [3.0] * 10
    report = density.report(Measured(start_ms, ours_kb=900.0, programs_kb=500.0, slab_kb=300.0, agent_kb=10.0))
    what = {result.what: result.p50 for result in report.results}
    assert what["the platform for each container"] == 400
    assert report.ratios == {
        "target_over_platform_memory": pytest.approx(density.TARGET_KB / 400),
        "last_start_over_10th": pytest.approx(1.5),
    }


def test_the_tenth_has_as_many_before_it_as_after() -> None:
    assert list(density.around_tenth(list(map(float, range(1, 31))))) == [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]


@pytest.mark.system
def test_whole_run_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What so few take of the memory of a machine that does other things is no figure."""
    monkeypatch.setattr(density, "SETTLE_S", 0.0)
    monkeypatch.setattr(density, "_wait_for_floor", lambda installation: installation.settle())
    report = density.run(quick=True, count=15)
    assert {result.what: result.n for result in report.results}["asked -> ready, all"] == 15
