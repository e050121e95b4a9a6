"""`python -m bench NAME [--quick] [--json FILE]`: run one benchmark, print its table, write its JSON."""

import argparse
import importlib
from pathlib import Path

from rich.console import Console

from bench.results import Report

# Name -> what it measures. The module bench.NAME has `run(quick: bool) -> Report`.
BENCHMARKS = {
    "cmcache": "load time, memory and update latency of the CMCache against a real etcd",
    "coldstart": "milliseconds to the first byte of a sleeping site, by phase, beside posix_spawn, bubblewrap and runc (root)",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        epilog="\n".join(f"{name:12} {about}" for name, about in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    arguments = parser.parse_args()
    report: Report = importlib.import_module(f"bench.{arguments.name}").run(arguments.quick)
    report.show(Console())
    if arguments.json:
        arguments.json.write_bytes(report.json() + b"\n")


if __name__ == "__main__":
    main()
