"""Cycles of start, ready, stop per second, sustained: several sites at a time, each with its network namespace and control groups.

A cycle is what a proxy asks of the agent: wake this site (answered when it listens), then stop it (answered when its process has
ended). Everything is in it: blanks are made, links and namespaces removed, rows, events and logs written, by the same two cores on
which the programs (busybox httpd) and this client run.
"""

import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from bench import footprint
from bench.coldstart.installation import Installation, installed
from bench.coldstart.ours import Asker
from bench.coldstart.visit import PATIENCE_S
from bench.results import Report, Result, machine, measured, percentile
from dispatcher.compute.protocol import Answer, Done, Ensure, Stop

PAGE = b"<!doctype html><title>bench</title><p>Here for a moment.\n"
AT_A_TIME = 8
LENGTH_S, LENGTH_QUICK_S = 60.0, 5.0
WARM_UP_SHARE = 0.2  # pools, caches and heaps grow to their size first
SAMPLE_S = 1.0
TARGET_PER_S = 60
EDGE = 5  # samples at either end of the run whose medians are compared


@dataclass(frozen=True, slots=True)
class Cycle:
    ended: float  # perf_counter
    ready_ms: float
    stopped_ms: float


@dataclass(frozen=True, slots=True)
class Memory:
    agent_kb: int
    launcher_kb: int
    etcd_kb: int
    slab_kb: int
    available_kb: int


def run(quick: bool) -> Report:
    apps = [f"churn-{number}" for number in range(AT_A_TIME)]
    with installed(PAGE, apps, proxy=False) as (installation, _):
        began = time.perf_counter()
        cycles, memory = _churn(installation, began + (LENGTH_QUICK_S if quick else LENGTH_S))
        _settled(installation)
    if left := footprint.remains(installation.settings):
        raise RuntimeError("left behind:\n" + "\n".join(left))
    return report(cycles, memory, began)


def _churn(installation: Installation, deadline: float) -> tuple[list[Cycle], list[Memory]]:
    """Threads, for each waits for the agent nearly all the time."""
    cycles: list[Cycle] = []
    failures: list[BaseException] = []
    workers = [
        threading.Thread(target=_work, args=(installation, app, deadline, cycles, failures))
        for app in installation.apps
    ]
    for worker in workers:
        worker.start()
    memory = []
    while any(worker.is_alive() for worker in workers):
        memory.append(_memory(installation))
        print(f"\r{len(cycles)} cycles", end="", file=sys.stderr)
        time.sleep(SAMPLE_S)
    print(file=sys.stderr)
    if failures:
        raise failures[0]
    return cycles, memory


def _work(
    installation: Installation, app: str, deadline: float, cycles: list[Cycle], failures: list[BaseException]
) -> None:
    try:
        with closing(Asker(installation.settings.agent_socket)) as agent:
            while time.perf_counter() < deadline and not failures:
                cycles.append(_cycle(agent, app))
    except BaseException as error:  # noqa: BLE001 - the border of a thread: raised by whoever waits for it
        failures.append(error)


def _cycle(agent: Asker, app: str) -> Cycle:
    began = time.perf_counter()
    answer = agent.ask(Ensure(1, app, "1", PATIENCE_S))
    ready = time.perf_counter()
    if not isinstance(answer, Answer):
        raise RuntimeError(f"the agent did not start {app}: {answer}")
    done = agent.ask(Stop(2, app))
    ended = time.perf_counter()
    if not isinstance(done, Done) or not done.lives:
        raise RuntimeError(f"the agent did not stop {app}: {done}")
    return Cycle(ended, (ready - began) * 1000, (ended - ready) * 1000)


def _memory(installation: Installation) -> Memory:
    return Memory(
        footprint.resident_kb(installation.processes["agent"].pid),
        footprint.resident_kb(installation.processes["launcher"].pid),
        footprint.resident_kb(installation.processes["etcd"].pid),
        footprint.slab_kb(),
        footprint.available_kb(),
    )


def _settled(installation: Installation) -> None:
    """What was torn down behind the last answers is gone: of the slots in use only the reserve's are left."""
    installation.settle()


def report(cycles: Sequence[Cycle], memory: Sequence[Memory], began: float) -> Report:
    """Pure. The first second and the last are not whole."""
    ends = sorted(cycle.ended for cycle in cycles)
    length_s = ends[-1] - began
    seconds = [0] * int(length_s)
    for end in ends:
        if int(end - began) < len(seconds):
            seconds[int(end - began)] += 1
    warm = memory[int(len(memory) * WARM_UP_SHARE) :]
    sustained = len(ends) / length_s
    return Report(
        "churn",
        machine(),
        [
            Result("cycles per second, over the whole run", "1/s", round(sustained, 2), round(sustained, 2), len(ends)),
            measured("cycles in a second", "1/s", seconds or [len(ends)]),
            measured("asked to start -> ready", "ms", [cycle.ready_ms for cycle in cycles]),
            measured("asked to stop -> stopped", "ms", [cycle.stopped_ms for cycle in cycles]),
            measured("memory of the agent (RSS)", "MB", [each.agent_kb / 1024 for each in warm]),
            measured("memory of the launcher (RSS)", "MB", [each.launcher_kb / 1024 for each in warm]),
            measured("memory of etcd (RSS)", "MB", [each.etcd_kb / 1024 for each in warm]),
            measured("kernel objects (SUnreclaim)", "MB", [each.slab_kb / 1024 for each in warm]),
            _growth("agent grew by", [each.agent_kb for each in warm]),
            _growth("launcher grew by", [each.launcher_kb for each in warm]),
            _growth("etcd grew by", [each.etcd_kb for each in warm]),
            _growth("kernel objects grew by", [each.slab_kb for each in warm]),
            _growth("the machine's used memory grew by", [-each.available_kb for each in warm]),
        ],
        {"cycles_over_target": sustained / TARGET_PER_S},
    )


def _growth(what: str, kb: Sequence[int]) -> Result:
    """From the median of the first samples after warming up to that of the last."""
    grown = percentile(kb[-EDGE:], 0.5) - percentile(kb[:EDGE], 0.5)
    return Result(what, "MB", round(grown / 1024, 2), round(grown / 1024, 2), len(kb))
