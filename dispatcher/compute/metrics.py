"""The agent's figures for Prometheus. No series per app: a sleeping site costs nothing here either."""

import time
from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram

from dispatcher.cmdb.cache import CMCache
from dispatcher.domain import Cause, Status

STARTS = Counter("fastcontainer_starts_total", "Containers that became ready, by cause", ["cause"])
THAWS = Counter("fastcontainer_thaws_total", "Frozen containers that were thawed, by cause", ["cause"])
FAILURES = Counter(
    "fastcontainer_failures_total", "Containers that failed: at their start, or died while running", ["when"]
)
PHASES = Histogram(
    "fastcontainer_start_phase_seconds",
    "Time of a start by phase",
    ["phase"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
CONTAINERS = Gauge("fastcontainer_containers", "Containers with a life on this host, by state", ["state"])
FROZEN_BYTES = Gauge("fastcontainer_frozen_memory_bytes", "Memory that frozen containers keep")
ROWS_BEHIND = Gauge("fastcontainer_rows_behind", "Container rows that the CMDB does not have yet as they are")
CACHE_SIZE = Gauge("fastcontainer_cmcache_keys", "Keys in CMCache")
CACHE_AGE = Gauge("fastcontainer_cmcache_age_seconds", "Since the CMDB last answered")
RECONNECTS = Gauge("fastcontainer_cmcache_reconnects", "Watches of the CMDB that had to be opened again")


class HasStatus(Protocol):
    status: Status
    kept_bytes: int


def observe_start(cause: Cause, phases: Mapping[str, float]) -> None:
    STARTS.labels(cause).inc()
    for phase, ms in phases.items():
        PHASES.labels(phase).observe(ms / 1000)


def observe_thaw(cause: Cause, phases: Mapping[str, float]) -> None:
    THAWS.labels(cause).inc()
    for phase, ms in phases.items():
        PHASES.labels(phase).observe(ms / 1000)


def update(lives: Iterable[HasStatus], rows_behind: int) -> None:
    lives = list(lives)
    tally = Tally(life.status for life in lives)
    FROZEN_BYTES.set(sum(life.kept_bytes for life in lives))
    for status in (Status.STARTING, Status.RUNNING, Status.FROZEN, Status.DRAINING):
        CONTAINERS.labels(status).set(tally[status])
    ROWS_BEHIND.set(rows_behind)


def observe_cache(cache: CMCache) -> None:
    """Read when they are asked for, so that an idle agent need not wake to keep them fresh."""
    CACHE_SIZE.set_function(lambda: cache.size)
    CACHE_AGE.set_function(lambda: cache.age_s(time.monotonic()))
    RECONNECTS.set_function(lambda: cache.reconnects)
