"""The form that all benchmarks report in: JSON for a program, a table for a person."""

import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table


class Result(msgspec.Struct, frozen=True):
    what: str
    unit: str
    p50: float
    p99: float
    n: int


class Report(msgspec.Struct, frozen=True):
    """`ratios` are of p50, as their names say: theirs over ours where it is about time, so that higher is better."""

    name: str
    machine: str
    results: list[Result]
    ratios: dict[str, float] = {}

    def json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)

    def show(self, console: Console) -> None:
        table = Table(title=f"{self.name} on {self.machine}", title_justify="left")
        table.add_column("what")
        for column in ("p50", "p99", "unit", "n"):
            table.add_column(column, justify="right" if column != "unit" else "left")
        for result in self.results:
            table.add_row(result.what, f"{result.p50:,.3g}", f"{result.p99:,.3g}", result.unit, str(result.n))
        console.print(table)
        for name, ratio in self.ratios.items():
            console.print(f"{name}: {ratio:.2f}")


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest rank: the least sample that at least `share` of them do not exceed."""
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]


def measured(what: str, unit: str, samples: Sequence[float]) -> Result:
    return Result(what, unit, round(percentile(samples, 0.5), 4), round(percentile(samples, 0.99), 4), len(samples))


def machine() -> str:
    """Processor, cores, memory, kernel and Python, in one line."""
    names = (
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    cores = len(os.sched_getaffinity(0))
    return (
        f"{next(names, platform.machine())}, {cores} cores, {memory_gib:.0f} GiB, Linux {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}"
    )
