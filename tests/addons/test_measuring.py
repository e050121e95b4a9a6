import asyncio

from prometheus_client import generate_latest

from addons import measuring
from addons.measuring import InFlight, Metrics


async def turn():
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_reports_leave_at_once_when_a_count_leaves_zero_or_returns_to_it(monkeypatch):
    monkeypatch.setattr(measuring, "TRAFFIC_EVERY_S", 0.02)
    reports = []
    in_flight = InFlight(reports.append)
    in_flight.up("blog/1.1")
    in_flight.up("shop/1.1")
    await turn()
    assert reports.pop() == {"blog/1.1": 1, "shop/1.1": 1}
    in_flight.up("blog/1.1")
    in_flight.up("blog/1.1")
    await turn()
    assert reports == []
    await asyncio.sleep(0.05)
    assert reports.pop() == {"blog/1.1": 3}
    for _ in range(3):
        in_flight.down("blog/1.1")
    await turn()
    assert reports.pop() == {"blog/1.1": 0}
    assert in_flight.lives() == {"shop/1.1": 1}


async def test_what_another_host_counts_is_not_reported():
    reports = []
    in_flight = InFlight(reports.append)
    in_flight.up("blog/1@there")
    await turn()
    assert reports == []
    assert in_flight.lives() == {}


def test_series_do_not_grow_with_the_number_of_apps(monkeypatch):
    monkeypatch.setattr(measuring, "APPS_MAX", 3)
    metrics = Metrics("userproxy", dict)
    for i in range(10):
        metrics.request("busy", "passed")
        metrics.request(f"app{i}", "passed")
        metrics.response(f"app{i}", 0.1)
    for i in range(100):
        metrics.wake(0.1, {f"phase{i}": 1.0})
    text = generate_latest(metrics.registry).decode()
    assert 'requests_total{app="busy",outcome="passed"} 10.0' in text
    assert text.count("_requests_total{") == 3
    assert text.count("_wake_seconds_count{") == 1 + measuring.PHASES_MAX
