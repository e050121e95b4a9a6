import pytest

from bench import churn
from bench.churn import Cycle, Memory


def found(cycles: list[Cycle], memory: list[Memory]) -> dict[str, float]:
    return {result.what: result.p50 for result in churn.report(cycles, memory, 100.0).results}


def test_a_rate_counts_the_whole_run_and_its_seconds() -> None:
    cycles = [Cycle(100.0 + number / 50, 3.0, 1.0) for number in range(1, 201)]  # 50 a second for 4 s
    memory = [Memory(50 << 10, 10 << 10, 30 << 10, 40 << 10, 1 << 20)] * 5
    report = churn.report(cycles, memory, 100.0)
    assert report.results[0].what == "cycles per second, over the whole run"
    assert (report.results[0].p50, report.results[0].n) == (50.0, 200)
    assert report.results[1].p50 == 50
    assert report.ratios == {"cycles_over_target": pytest.approx(50 / churn.TARGET_PER_S)}


def test_growth_is_what_comes_after_warming_up() -> None:
    grows = [
        Memory((50 + number) << 10, 10 << 10, (30 + 2 * number) << 10, 40 << 10, (1000 - number) << 10)
        for number in range(100)
    ]
    what = found([Cycle(101.0, 1.0, 1.0)], grows)
    assert what["agent grew by"] == 75  # from the median of the 21st to 25th sample to that of the last five
    assert what["launcher grew by"] == 0
    assert what["etcd grew by"] == 150
    assert what["the machine's used memory grew by"] == 75


@pytest.mark.system
def test_whole_run_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(churn, "LENGTH_QUICK_S", 1.0)
    report = churn.run(quick=True)
    assert report.results[0].n >= churn.AT_A_TIME
    assert report.ratios["cycles_over_target"] > 0
