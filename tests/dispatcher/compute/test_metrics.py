from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from dispatcher.compute import metrics
from dispatcher.domain import Cause, Status


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def lives(*statuses: Status) -> list[SimpleNamespace]:
    return [SimpleNamespace(status=status, kept_bytes=0) for status in statuses]


def test_containers_by_state_and_those_that_are_no_more_count_zero() -> None:
    metrics.update(lives(Status.RUNNING, Status.RUNNING, Status.STARTING), 3)
    assert value("fastcontainer_containers", state="running") == 2
    assert value("fastcontainer_containers", state="starting") == 1
    assert value("fastcontainer_rows_behind") == 3
    frozen = SimpleNamespace(status=Status.FROZEN, kept_bytes=5 << 20)
    metrics.update([frozen, frozen], 0)
    assert value("fastcontainer_containers", state="frozen") == 2
    assert value("fastcontainer_frozen_memory_bytes") == 10 << 20
    metrics.update([], 0)
    assert value("fastcontainer_frozen_memory_bytes") == 0
    assert value("fastcontainer_containers", state="running") == 0
    assert value("fastcontainer_rows_behind") == 0


def test_a_thaw_is_no_start() -> None:
    starts, thaws = (value(f"fastcontainer_{name}_total", cause="request") or 0 for name in ("starts", "thaws"))
    sum_before = value("fastcontainer_start_phase_seconds_sum", phase="thaw") or 0
    metrics.observe_thaw(Cause.REQUEST, {"thaw": 2.0})
    assert value("fastcontainer_thaws_total", cause="request") == thaws + 1
    assert (value("fastcontainer_starts_total", cause="request") or 0) == starts
    assert value("fastcontainer_start_phase_seconds_sum", phase="thaw") == pytest.approx(sum_before + 0.002)


def test_a_start_is_observed_by_cause_and_phase_in_seconds() -> None:
    before = value("fastcontainer_starts_total", cause="manual") or 0
    sum_before = value("fastcontainer_start_phase_seconds_sum", phase="probe") or 0
    metrics.observe_start(Cause.MANUAL, {"probe": 12.0})
    assert value("fastcontainer_starts_total", cause="manual") == before + 1
    assert value("fastcontainer_start_phase_seconds_sum", phase="probe") == pytest.approx(sum_before + 0.012)


def test_the_cache_is_read_when_it_is_asked_for() -> None:
    cache = SimpleNamespace(size=5, age_s=lambda now: 2.5, reconnects=1)
    metrics.observe_cache(cache)  # type: ignore[arg-type]
    cache.size = 7
    assert value("fastcontainer_cmcache_keys") == 7
    assert value("fastcontainer_cmcache_age_seconds") == 2.5
    assert value("fastcontainer_cmcache_reconnects") == 1


def test_no_series_grows_with_the_number_of_apps() -> None:
    labels = {
        name
        for metric in (metrics.STARTS, metrics.FAILURES, metrics.PHASES, metrics.CONTAINERS)
        for name in metric._labelnames
    }
    assert labels == {"cause", "when", "phase", "state"}
