"""Where the time of a wake goes: microseconds of each step inside the blank, and of each phase as the agent sees it.

One sleeping site (busybox httpd), woken again and again from rest. Telling takes time itself: `exec` is some 0.05 ms longer here.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from bench import stepping
from bench.coldstart.installation import APP, installed
from bench.coldstart.ours import FIRST_BYTE, Asker, Ours
from bench.results import Report, machine, measured

PAGE = b"<!doctype html><title>bench</title><p>Step by step.\n"
ROUNDS, ROUNDS_QUICK = 100, 20


def run(quick: bool) -> Report:
    phases: dict[str, list[float]] = defaultdict(list)
    logs: dict[str, str] = {}  # kept here, for the agent keeps only those of the last lives
    with installed(PAGE, launcher=(sys.executable, "-SI", stepping.__file__)) as (installation, _):
        with closing(Asker(installation.settings.agent_socket)) as agent:
            ours = Ours(agent, installation.proxy_address, PAGE)
            for _ in range(ROUNDS_QUICK if quick else ROUNDS):
                installation.settle()
                logs |= _logs(Path(installation.settings.log_dir, "lives", APP))
                for phase, ms in ours.launch().items():
                    phases[phase].append(ms * 1000)
            installation.settle()
        logs |= _logs(Path(installation.settings.log_dir, "lives", APP))
    lines = [line for text in logs.values() for line in text.splitlines()]
    results = [measured(f"blank: {step}", "us", each) for step, each in parse(lines).items()]
    results += [measured(f"agent: {phase}", "us", each) for phase, each in phases.items() if phase != FIRST_BYTE]
    return Report("steps", machine(), [*results, measured(FIRST_BYTE, "us", phases[FIRST_BYTE])])


def _logs(directory: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in directory.glob("*.log")}


def parse(lines: Iterable[str]) -> dict[str, list[float]]:
    """Pure. Microseconds by step; one that is taken several times in a wake counts as their sum."""
    steps: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        _, mark, text = line.partition(stepping.MARK)
        if not mark:
            continue
        total: dict[str, float] = defaultdict(float)
        for step, us in json.loads(text):
            total[step] += us
        for step, us in total.items():
            steps[step].append(us)
    return steps
