"""Many containers at once: what the platform takes of the host's memory for each, and whether the last starts as fast as the first.

What the same program takes by posix_spawn, as often, in the same run, is subtracted: the rest is the container's namespaces, link,
control groups and mounts, its init, and what agent, launcher and CMDB keep of it.

Taken twice: from MemAvailable, and as the sum of what the kernel counts of its own memory that it cannot have back, and what the
processes hold. Other things on the machine take and give meanwhile, so nothing is read before and after. It is read at every start,
and what counts is the median of the slopes between all pairs of readings (Theil and Sen): something that takes or gives at once, or
for a while, moves few of these. MemAvailable wants a quiet machine all the same.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from bench import footprint
from bench.coldstart import bundle
from bench.coldstart.installation import Installation, installed
from bench.coldstart.ours import Asker
from bench.coldstart.theirs import HOST, free_port
from bench.coldstart.visit import PATIENCE_S, visit
from bench.results import Report, Result, machine, measured, percentile
from containerlib import cgroups
from dispatcher.compute.protocol import Answer, Ensure
from dispatcher.settings import host_port

PAGE = b"<!doctype html><title>bench</title><p>One of many.\n"
COUNT, COUNT_QUICK = 500, 30
AROUND = 10  # starts about the 10th and up to the last that are compared: one alone says little
SKIPPED = 40  # starts, in which the reserve grows with the demand
PAIRS_APART = 20  # at least: the kernel's counters are brought up to date in steps of some pages for each processor
SPAWNED_S = 0.01  # after which a program by posix_spawn has answered and waits
TARGET_KB = 500
ANONYMOUS = "processes"
COUNTED = (*footprint.COUNTERS, "vmalloc", ANONYMOUS)

Readings = list[dict[str, int]]  # KB by name, after each start


@dataclass(frozen=True, slots=True)
class Measured:
    start_ms: list[float]  # agent asked -> ready, in order
    ours: Mapping[str, float]  # KB by name, for each container
    programs: Mapping[str, float]  # for each program by posix_spawn
    agent_kb: float


def run(quick: bool, count: int = 0) -> Report:
    count = count or (COUNT_QUICK if quick else COUNT)
    apps = [f"site-{number:03}" for number in range(count)]
    with installed(PAGE, apps, proxy=False) as (installation, _):
        installation.settle()
        programs = _spawn(installation, count)
        installation.settle()
        found = _fill(installation, programs)
    if left := footprint.remains(installation.settings):
        raise RuntimeError("left behind:\n" + "\n".join(left))
    return report(found)


def _spawn(installation: Installation, count: int) -> Mapping[str, float]:
    """Each answers once, as the containers' do."""
    pids: list[int] = []
    readings: Readings = []
    try:
        for _ in range(count):
            address = (HOST, free_port())
            words = bundle.httpd(f"{HOST}:{address[1]}", str(installation.site))
            pids.append(os.posix_spawn(words[0], words, os.environ, setpgroup=0))
            visit(address, "bench", PAGE)
            time.sleep(SPAWNED_S)
            readings.append(footprint.counters_kb())
        return {**each_kb(readings), ANONYMOUS: percentile([footprint.anonymous_kb(pid) for pid in pids], 0.5)}
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _fill(installation: Installation, programs: Mapping[str, float]) -> Measured:
    agent_pid = installation.processes["agent"].pid
    readings: Readings = []
    start_ms = []
    with closing(Asker(installation.settings.agent_socket)) as agent:
        for number, app in enumerate(installation.apps, 1):
            installation.settle()
            readings.append({**footprint.counters_kb(), "agent": footprint.resident_kb(agent_pid)})
            start_ms.append(_start_ms(agent, app))
            print(f"\r{number} of {len(installation.apps)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    ours = {**each_kb(readings), ANONYMOUS: percentile(_anonymous_kb(installation), 0.5)}
    return Measured(start_ms, ours, programs, ours["agent"])


def _anonymous_kb(installation: Installation) -> list[float]:
    """Of each group; of few of them the reserve's."""
    tree = cgroups.find(installation.settings.cgroup)
    return [footprint.group_anonymous_kb(tree.group(name)) for name in tree.names()]


def each_kb(readings: Readings) -> Mapping[str, float]:
    """Pure: by name, what one start more takes. MemAvailable is what is left of it."""
    kept = readings[SKIPPED:] if len(readings) > 2 * SKIPPED else readings
    slopes = {name: slope([reading[name] for reading in kept]) for name in kept[0]}
    slopes["MemAvailable"] = -slopes["MemAvailable"]
    return slopes


def slope(values: Sequence[float]) -> float:
    """Pure: of a value that grows evenly and is disturbed now and then, its growth from one to the next."""
    apart = min(PAIRS_APART, len(values) - 1)
    found = [
        (values[later] - values[earlier]) / (later - earlier)
        for earlier in range(len(values) - apart)
        for later in range(earlier + apart, len(values))
    ]
    return percentile(found, 0.5)


def _start_ms(agent: Asker, app: str) -> float:
    began = time.perf_counter()
    answer = agent.ask(Ensure(1, app, "1", PATIENCE_S))
    took_ms = (time.perf_counter() - began) * 1000
    if not isinstance(answer, Answer):
        raise RuntimeError(f"the agent did not start {app}: {answer}")
    visit(host_port(answer.live.address), "bench", PAGE)
    return took_ms


def report(found: Measured) -> Report:
    """Pure."""
    early, late = around_tenth(found.start_ms), found.start_ms[-AROUND:]
    count = len(found.start_ms)
    ours, programs = (counted_kb(slopes) for slopes in (found.ours, found.programs))
    by_available_kb = found.ours["MemAvailable"] - found.programs["MemAvailable"]

    def each(what: str, kb: float) -> Result:
        return Result(what, "KB", round(kb, 1), round(kb, 1), count)

    return Report(
        "density",
        machine(),
        [
            each("a container, its program included (MemAvailable)", found.ours["MemAvailable"]),
            each("the same program by posix_spawn (MemAvailable)", found.programs["MemAvailable"]),
            each("the platform for each container (MemAvailable)", by_available_kb),
            each("a container, its program included (counters)", ours),
            each("the same program by posix_spawn (counters)", programs),
            each("the platform for each container (counters)", ours - programs),
            *(each(f"of that: {name}", found.ours[name] - found.programs[name]) for name in COUNTED),
            each("of that, in the agent (RSS)", found.agent_kb),
            measured("asked -> ready, about the 10th", "ms", early),
            measured("asked -> ready, the last ones", "ms", late),
            measured("asked -> ready, all", "ms", found.start_ms),
        ],
        {
            "target_over_platform_memory": TARGET_KB / by_available_kb,
            "target_over_platform_memory_counted": TARGET_KB / (ours - programs),
            "last_start_over_10th": percentile(late, 0.5) / percentile(early, 0.5),
        },
    )


def counted_kb(slopes: Mapping[str, float]) -> float:
    """Pure."""
    return sum(slopes[name] for name in COUNTED)


def around_tenth(start_ms: Sequence[float]) -> Sequence[float]:
    return start_ms[9 - AROUND // 2 : 9 + AROUND // 2]
