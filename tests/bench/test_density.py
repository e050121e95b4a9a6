import pytest

from bench import density
from bench.density import Measured


def slopes(available_kb: float, each_kb: float) -> dict[str, float]:
    return {"MemAvailable": available_kb, **dict.fromkeys(density.COUNTED, each_kb)}


def test_the_program_is_not_the_platforms_and_both_ends_of_the_run_are_compared() -> None:
    start_ms = [9.0] * 4 + [2.0] * 10 + [5.0] * 100 + [3.0] * 10
    report = density.report(Measured(start_ms, slopes(900.0, 60.0), slopes(500.0, 10.0), agent_kb=10.0))
    what = {result.what: result.p50 for result in report.results}
    counted = 50 * len(density.COUNTED)
    assert what["the platform for each container (MemAvailable)"] == 400
    assert what["the platform for each container (counters)"] == counted
    assert what["of that: PageTables"] == 50
    assert report.ratios == {
        "target_over_platform_memory": pytest.approx(density.TARGET_KB / 400),
        "target_over_platform_memory_counted": pytest.approx(density.TARGET_KB / counted),
        "last_start_over_10th": pytest.approx(1.5),
    }


def disturbed(count: int) -> list[float]:
    """By 700 each; something else takes 50 MB for a fifth of the time, and something takes 9 MB for good."""
    return [
        700.0 * number + 50_000 * (count // 2 < number < count * 7 // 10) + 9000 * (number > count // 4)
        for number in range(count)
    ]


def test_what_else_happens_on_the_machine_moves_the_figure_little() -> None:
    assert density.slope([700.0 * number for number in range(100)]) == 700
    assert density.slope(disturbed(500)) == pytest.approx(700, rel=0.05)
    assert density.slope([0.0, 5.0]) == 5


def test_of_what_is_available_less_is_left_and_the_first_starts_do_not_count() -> None:
    readings = [{"MemAvailable": -9 * n, "Shmem": n} for n in range(density.SKIPPED)]
    readings += [{"MemAvailable": -8 * n, "Shmem": 2 * n} for n in range(density.SKIPPED + 30)]
    assert density.each_kb(readings) == {"MemAvailable": 8, "Shmem": 2}


def test_the_tenth_has_as_many_before_it_as_after() -> None:
    assert list(density.around_tenth(list(map(float, range(1, 31))))) == [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]


@pytest.mark.system
def test_whole_run_leaves_nothing() -> None:
    """What so few take of the memory of a machine that does other things is no figure."""
    report = density.run(quick=True, count=15)
    assert {result.what: result.n for result in report.results}["asked -> ready, all"] == 15
