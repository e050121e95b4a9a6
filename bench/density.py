"""Many containers at once: what the platform takes of the host's memory for each, and whether the last starts as fast as the first.

Of the host's available memory, what the same program takes by posix_spawn, as often, in the same run, is subtracted: the rest is
the container's namespaces, link, control groups and mounts, its init, and what agent, launcher and CMDB keep of it.
"""

import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from bench import footprint
from bench.coldstart import bundle
from bench.coldstart.installation import Installation, installed
from bench.coldstart.ours import Asker
from bench.coldstart.theirs import HOST, free_port
from bench.coldstart.visit import PATIENCE_S, visit
from bench.results import Report, Result, machine, measured, percentile
from dispatcher.compute.pool import DEMAND_WINDOW_S
from dispatcher.compute.protocol import Answer, Ensure
from dispatcher.settings import host_port

PAGE = b"<!doctype html><title>bench</title><p>One of many.\n"
COUNT, COUNT_QUICK = 500, 30
AROUND = 10  # starts about the 10th and up to the last that are compared: one alone says little
FLOOR_S = DEMAND_WINDOW_S + 30
SETTLE_S, SAMPLE_S = 4.0, 0.05  # in which the kernel frees what it was told to free
TARGET_KB = 500


@dataclass(frozen=True, slots=True)
class Measured:
    start_ms: list[float]  # agent asked -> ready, in order
    ours_kb: float  # for each container
    programs_kb: float  # for each program by posix_spawn
    slab_kb: float
    agent_kb: float


def run(quick: bool, count: int = 0) -> Report:
    count = count or (COUNT_QUICK if quick else COUNT)
    apps = [f"site-{number:03}" for number in range(count)]
    with installed(PAGE, apps, proxy=False) as (installation, _):
        installation.settle()
        programs_kb = _programs_kb(installation, count)
        installation.settle()
        found = _fill(installation, programs_kb)
    if left := footprint.remains(installation.settings):
        raise RuntimeError("left behind:\n" + "\n".join(left))
    return report(found)


def _available_kb() -> float:
    """The median of some seconds: whatever else runs here takes and gives."""
    samples: list[float] = []
    deadline = time.monotonic() + SETTLE_S
    while not samples or time.monotonic() < deadline:
        samples.append(footprint.available_kb())
        time.sleep(SAMPLE_S)
    return percentile(samples, 0.5)


def _programs_kb(installation: Installation, count: int) -> float:
    before = _available_kb()
    with _spawned(installation, count):
        return (before - _available_kb()) / count


@contextmanager
def _spawned(installation: Installation, count: int) -> Iterator[None]:
    """Each answers once, as the containers' do."""
    pids: list[int] = []
    try:
        for _ in range(count):
            address = (HOST, free_port())
            words = bundle.httpd(f"{HOST}:{address[1]}", str(installation.site))
            pids.append(os.posix_spawn(words[0], words, os.environ, setpgroup=0))
            visit(address, "bench", PAGE)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _fill(installation: Installation, programs_kb: float) -> Measured:
    before_kb, before_slab_kb = _available_kb(), footprint.slab_kb()
    agent_pid = installation.processes["agent"].pid
    before_agent_kb = footprint.resident_kb(agent_pid)
    start_ms = []
    with closing(Asker(installation.settings.agent_socket)) as agent:
        for number, app in zip(itertools.count(1), installation.apps, strict=False):
            installation.settle()
            start_ms.append(_start_ms(agent, app))
            print(f"\r{number} of {len(installation.apps)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    _wait_for_floor(installation)
    count = len(installation.apps)
    return Measured(
        start_ms,
        (before_kb - _available_kb()) / count,
        programs_kb,
        (footprint.slab_kb() - before_slab_kb) / count,
        (footprint.resident_kb(agent_pid) - before_agent_kb) / count,
    )


def _wait_for_floor(installation: Installation) -> None:
    """The reserve grew with the demand of these starts and is no container's; it shrinks when that is forgotten."""
    wanted = len(installation.apps) + installation.settings.blanks
    deadline = time.monotonic() + FLOOR_S
    while installation.slots() > wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{installation.slots()} slots are in use, {wanted} wanted")
        time.sleep(1)
    installation.settle()


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
    platform_kb = found.ours_kb - found.programs_kb

    def each(what: str, kb: float) -> Result:
        return Result(what, "KB", round(kb, 1), round(kb, 1), count)

    return Report(
        "density",
        machine(),
        [
            each("a container, its program included (MemAvailable)", found.ours_kb),
            each("the same program by posix_spawn", found.programs_kb),
            each("the platform for each container", platform_kb),
            each("of that, kernel objects (SUnreclaim; the programs' own are in it)", found.slab_kb),
            each("of that, in the agent (RSS)", found.agent_kb),
            measured("asked -> ready, about the 10th", "ms", early),
            measured("asked -> ready, the last ones", "ms", late),
            measured("asked -> ready, all", "ms", found.start_ms),
        ],
        {
            "target_over_platform_memory": TARGET_KB / platform_kb,
            "last_start_over_10th": percentile(late, 0.5) / percentile(early, 0.5),
        },
    )


def around_tenth(start_ms: Sequence[float]) -> Sequence[float]:
    return start_ms[9 - AROUND // 2 : 9 + AROUND // 2]
