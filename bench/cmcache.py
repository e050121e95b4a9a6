"""Load time, memory and update latency of the CMCache, for apps of three rows each (spec, domain, container).

A real etcd of its own in a temporary directory; each load in a fresh process. Update latency is from just before the put to the
cache's callback in the same loop, so the put's own time is in it.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from bench.results import Report, Result, machine, measured
from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.cache import Change, CMCache
from dispatcher.cmdb.client import EtcdStore
from dispatcher.cmdb.store import Put
from dispatcher.domain import AppSpec, ContainerRow, Mount
from dispatcher.settings import Settings

ROWS = 3
APPS_A_COMMIT = 42  # 126 of the 128 operations that etcd takes
COMMITS_AT_ONCE = 16
UPDATES = 500
UPDATES_A_SECOND = 100  # at a constant rate, whatever the last one took
LOAD_MAX_S, UPDATE_MAX_S = 300, 30


def run(quick: bool) -> Report:
    results: list[Result] = []
    for apps in (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000):
        with _etcd() as endpoint:
            asyncio.run(_fill(endpoint, apps))
            runs = [_measure_in_fresh_process(endpoint) for _ in range(1 if apps > 100_000 else 3)]
        size = f"{apps // 1000}k apps"
        assert all(run["keys"] == apps * ROWS for run in runs)
        results += [
            measured(f"{size}: load", "s", [run["load_s"] for run in runs]),
            measured(f"{size}: longest stall of the loop meanwhile", "ms", [run["stall_ms"] for run in runs]),
            measured(f"{size}: memory of the process (RSS)", "MB", [run["rss_mb"] for run in runs]),
            measured(f"{size}: of that, before the load", "MB", [run["rss_before_mb"] for run in runs]),
            measured(f"{size}: highest memory meanwhile", "MB", [run["peak_mb"] for run in runs]),
            measured(f"{size}: put to callback", "ms", [each for run in runs for each in run["updates_ms"]]),
        ]
    return Report("cmcache", machine(), results)


@contextlib.contextmanager
def _etcd() -> Iterator[str]:
    client, peer = (f"127.0.0.1:{_free_port()}" for _ in range(2))
    with tempfile.TemporaryDirectory(prefix="bench-cmcache-") as directory:
        command = [
            "etcd", "--data-dir", f"{directory}/data", "--quota-backend-bytes", str(8 << 30),
            "--listen-client-urls", f"http://{client}", "--advertise-client-urls", f"http://{client}",
            "--listen-peer-urls", f"http://{peer}", "--initial-advertise-peer-urls", f"http://{peer}",
            "--initial-cluster", f"default=http://{peer}",
        ]  # fmt: skip
        with Path(directory, "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield client
        finally:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _rows(number: int) -> list[Put]:
    """As `fastcontainer app create` leaves them; the spec is some 300 bytes."""
    app = f"site-{number:07}"
    spec = AppSpec(
        command=("php", "-S", "0.0.0.0:80", "-t", "/srv/www"),
        mounts=(Mount(f"/datapool/sites/{number % 1000:03}/{app}/htdocs", "/srv/www"),),
        env={"DATABASE_HOST": "userdb.internal", "DATABASE_USER": app, "DATABASE_NAME": app, "LANG": "C.UTF-8"},
        workdir="/srv/www",
    )
    return [
        Put(keys.spec_key(app), codec.encode(spec)),
        Put(keys.domain_key(f"www.{app}.example.com"), app.encode()),
        Put(
            keys.container_key(app, "1"),
            codec.encode(ContainerRow(compute=f"compute-{number % 40}", generation=number % 7)),
        ),
    ]


async def _fill(endpoint: str, apps: int) -> None:
    store = EtcdStore(Settings(etcd=(endpoint,)))
    await _until_it_answers(store)
    first_of_each = iter(range(0, apps, APPS_A_COMMIT))

    async def write() -> None:
        for first in first_of_each:
            numbers = range(first, min(first + APPS_A_COMMIT, apps))
            await store.commit([], [put for number in numbers for put in _rows(number)])

    async with asyncio.TaskGroup() as group:
        for _ in range(COMMITS_AT_ONCE):
            group.create_task(write())
    await store.close()


async def _until_it_answers(store: EtcdStore) -> None:
    cache = CMCache(store)  # it tries until it is let in
    await cache.start(30)
    await cache.close()


def _measure_in_fresh_process(endpoint: str) -> Any:
    done = subprocess.run([sys.executable, "-m", "bench.cmcache", endpoint], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


async def _measure(endpoint: str) -> dict[str, Any]:
    store = EtcdStore(Settings(etcd=(endpoint,)))
    await store.get("/")  # connected
    before_mb = _rss_mb()
    cache = CMCache(store)
    async with _stall_ms() as stalls:
        began = time.perf_counter()
        await cache.start(LOAD_MAX_S)
        load_s = time.perf_counter() - began
    rss_mb = _rss_mb()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    updates_ms = await _updates(store, cache)
    found = {
        "keys": cache.size,
        "load_s": load_s,
        "stall_ms": max(stalls, default=0.0),
        "rss_before_mb": before_mb,
        "rss_mb": rss_mb,
        "peak_mb": peak_mb,
        "updates_ms": updates_ms,
    }
    await cache.close()
    await store.close()
    return found


async def _updates(store: EtcdStore, cache: CMCache) -> list[float]:
    heard: asyncio.Queue[float] = asyncio.Queue()
    samples = []

    def on_change(change: Change) -> None:
        heard.put_nowait(time.perf_counter())

    cache.on_change(on_change)
    _, _, row = _rows(7)
    due = time.perf_counter()
    for _ in range(UPDATES):
        due += 1 / UPDATES_A_SECOND
        await asyncio.sleep(due - time.perf_counter())
        await store.commit([], [row])
        samples.append((await asyncio.wait_for(heard.get(), UPDATE_MAX_S) - due) * 1000)
    return samples


@contextlib.asynccontextmanager
async def _stall_ms() -> AsyncIterator[list[float]]:
    """How late a timer of 1 ms was."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append((time.perf_counter() - began) * 1000 - 1)

    task = asyncio.get_running_loop().create_task(tick(), name="stalls")
    try:
        yield late
    finally:
        task.cancel()


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="One load, in this process: what `python -m bench cmcache` starts several times."
    )
    parser.add_argument("endpoint")
    print(json.dumps(asyncio.run(_measure(parser.parse_args().endpoint))))
