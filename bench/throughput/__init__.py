"""Requests a second and their latencies through each way to a warm site, and what the proxies in between cost.

The same container with nginx and one small page behind all of them. Each round measures one row after the other, so that
whatever else the machine does hits all alike. `requests/s` is what wrk gets with 16 connections that are kept, or a new one for
each request. `at N/s` are requests at fixed times, whether answers are slow or not: latency counts from when one was due. `CPU`
is utime and stime of a row's proxies over a fixed number of requests; what the container and the clients use is not in it.
"""

import sys
from collections import defaultdict
from dataclasses import dataclass, field

from bench.results import Report, Result, machine, measured, percentile
from bench.throughput import load
from bench.throughput.rows import HAPROXY, LANE, LEAN, MITMDUMP, SCRIPT, Row, rows

CONNECTIONS = 16
KEPT, NEW = "kept connections", "new connections"


@dataclass(frozen=True)
class Size:
    rounds: int
    wrk_s: float
    rates: tuple[float, ...]  # requests a second that every row can do
    rate_fast: float | None  # of those that do thousands; on kept connections: at a stall, new ones use up descriptors
    due_s: float  # how long requests are sent at each rate
    cpu_requests: int
    turns: int = 0  # of a second each for the two that are compared closely
    new_most: bool = True  # what wrk gets with new connections, too


FULL = Size(rounds=3, wrk_s=3, rates=(100, 300), rate_fast=1000, due_s=2, cpu_requests=3000, turns=4)
QUICK = Size(rounds=1, wrk_s=1, rates=(100,), rate_fast=None, due_s=0.3, cpu_requests=300, new_most=False)


@dataclass
class Samples:
    """By row."""

    most: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))  # and connections
    latency_ms: dict[tuple[str, str, float], list[float]] = field(default_factory=lambda: defaultdict(list))  # and rate
    cpu_us: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def run(quick: bool) -> Report:
    size = QUICK if quick else FULL
    samples = Samples()
    with rows() as found:
        for number in range(size.rounds):
            for row in found:
                print(f"\rround {number + 1} of {size.rounds}: {row.name:30}", end="", file=sys.stderr)
                measure(row, size, samples)
            for row in [row for row in found if row.name in (HAPROXY, LANE)] * size.turns:
                samples.most[row.name, KEPT].append(load.most(row.target, 1, CONNECTIONS, keep=True))
    print(file=sys.stderr)
    return report(samples)


def measure(row: Row, size: Size, samples: Samples) -> None:
    load.in_turn(row.target, CONNECTIONS * 2, CONNECTIONS)
    if row.processes:
        before = row.cpu_s()
        load.in_turn(row.target, size.cpu_requests, CONNECTIONS)
        samples.cpu_us[row.name].append((row.cpu_s() - before) / size.cpu_requests * 1e6)
    for keep, connections in ((True, KEPT), (False, NEW)):
        if keep or size.new_most:
            samples.most[row.name, connections].append(load.most(row.target, size.wrk_s, CONNECTIONS, keep=keep))
        fast = (size.rate_fast,) if size.rate_fast and row.is_fast and keep else ()
        for rate in (*size.rates, *fast):
            samples.latency_ms[row.name, connections, rate] += load.at_rate(
                row.target, rate, round(rate * size.due_s), keep=keep
            )


def report(samples: Samples) -> Report:
    """Pure. CPU ratios are ours over mitmdump's: lower is better."""
    results: list[Result] = []
    for (name, connections), each in samples.most.items():
        results.append(measured(f"{name}: {connections}", "requests/s", each))
    for (name, connections, rate), each in samples.latency_ms.items():
        results.append(measured(f"{name}: {connections}, at {rate:g}/s", "ms", each))
    for name, each in samples.cpu_us.items():
        results.append(measured(f"{name}: CPU", "us/request", each))
    most = {name: percentile(each, 0.5) for (name, connections), each in samples.most.items() if connections == KEPT}
    cpu = {name: percentile(each, 0.5) for name, each in samples.cpu_us.items()}
    ratios = {
        "lane_over_haproxy": most[LANE] / most[HAPROXY],
        "lane_over_mitmdump": most[LANE] / most[MITMDUMP],
        "lean_over_mitmdump_cpu": cpu[LEAN] / cpu[MITMDUMP],
        "script_over_mitmdump_cpu": cpu[SCRIPT] / cpu[MITMDUMP],
    }
    return Report("throughput", machine(), results, ratios)
