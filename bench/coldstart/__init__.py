"""Milliseconds to the first byte of a sleeping site, by phase, beside posix_spawn, bubblewrap, runc and podman.

The same static server everywhere (busybox httpd), no CPU limit, one of each in turn in every round, so that whatever else the
machine does hits all alike. `launch` is from the agent's being asked (theirs: from the spawn) to the first byte straight from the
server, `thaw` the same of a site that is frozen; `path` is from a client's new connection to the first byte through the proxies.
Rivals have no proxy: path_runc_over_ours compares runc's launch with our whole path.
"""

import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, closing

from bench.coldstart.frozen import Frozen
from bench.coldstart.installation import APP, FROZEN_APP, installed
from bench.coldstart.ours import FIRST_BYTE, Asker, Ours
from bench.coldstart.theirs import Rival, remove_podmans, rivals
from bench.results import Report, Result, machine, measured, percentile

PAGE = b"<!doctype html><title>bench</title><p>It was asleep.\n"
ROUNDS, ROUNDS_QUICK, ROUNDS_DROPPED = 100, 20, 2  # the first ones fill caches of all
OURS = "all namespaces, own network, cgroups, seccomp, init"

Samples = dict[str, list[float]]


def run(quick: bool) -> Report:
    with ExitStack() as stack:
        stack.callback(remove_podmans)
        installation, directory = stack.enter_context(installed(PAGE, (APP, FROZEN_APP)))
        found = []
        for rival in rivals(directory / "rivals", installation.site, PAGE):
            if reason := rival.why_not():
                print(f"{rival.name} is left out: {reason}", file=sys.stderr)
            else:
                found.append(rival)
        settings, rounds = installation.settings, ROUNDS_QUICK if quick else ROUNDS
        with closing(Asker(settings.agent_socket)) as agent:
            ours = Ours(agent, installation.proxy_address, PAGE)
            frozen = Frozen(agent, settings, PAGE)
            samples = _measure(ours, frozen, found, installation.settle, rounds)
    return report(samples, found)


def _measure(ours: Ours, frozen: Frozen, found: list[Rival], settle: Callable[[], None], rounds: int) -> Samples:
    def launch() -> None:
        settle()
        add("launch", ours.launch())

    def path() -> None:
        settle()
        add("path", ours.path())

    def thaw() -> None:
        settle()
        add("thaw", frozen.thaw())

    def rival_launch(rival: Rival) -> None:
        settle()
        add(rival.name, {FIRST_BYTE: rival.launch_ms()})

    def add(name: str, sample: dict[str, float]) -> None:
        if number >= 0:
            for what, ms in sample.items():
                samples[f"{name}: {what}"].append(ms)

    samples: Samples = defaultdict(list)
    for number in range(-ROUNDS_DROPPED, rounds):
        launch()
        path()
        thaw()
        for rival in found:
            rival_launch(rival)
        print(f"\rround {max(0, number + 1)} of {rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return samples


def report(samples: Samples, found: list[Rival]) -> Report:
    """Pure. Of a rival that is not there, the ratio is not there either."""
    isolation = {"launch": OURS, "thaw": OURS, **{rival.name: rival.isolation for rival in found}}
    results: list[Result] = []
    for what, each in samples.items():
        name, _, part = what.partition(": ")
        label = f"{what} ({isolation[name]})" if part == FIRST_BYTE and name in isolation else what
        results.append(measured(label, "ms", each))
    p50 = {what: percentile(each, 0.5) for what, each in samples.items()}
    ratios = {
        f"launch_{rival.name}_over_ours": p50[f"{rival.name}: {FIRST_BYTE}"] / p50[f"launch: {FIRST_BYTE}"]
        for rival in found
    }
    if (runc := p50.get(f"runc: {FIRST_BYTE}")) is not None:
        ratios["path_runc_over_ours"] = runc / p50[f"path: {FIRST_BYTE}"]
    return Report("coldstart", machine(), results, ratios)
