"""`python -m bench NAME [--quick] [--json FILE]`: run one benchmark, print its table, write its JSON."""

import argparse
import importlib
from pathlib import Path

from rich.console import Console

from bench.results import Report

# Name -> what it measures. The module bench.NAME has `run(quick: bool) -> Report`.
BENCHMARKS = {
    "churn": "cycles of start, ready, stop per second, sustained for a minute, and what they leave behind (root)",
    "cmcache": "load time, memory and update latency of the CMCache against a real etcd",
    "density": "memory of the platform for each of 500 containers at once, and how fast the last of them starts (root)",
    "steps": "microseconds of each step of a wake, in the blank and as the agent sees it (root)",
    "imagestart": "milliseconds to start a site on an image, by phase, beside the same one on the host's /usr (root)",
    "peers": "what a host would use instead: first request after sleep, warm load, memory of 50 sites, isolation (root)",
    "throughput": "requests per second, latencies and CPU of each way to a warm site, beside HAProxy, nginx and mitmdump (root)",
    "coldstart": "milliseconds to the first byte of a sleeping site, by phase, beside posix_spawn, bwrap, runc and podman (root)",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        epilog="\n".join(f"{name:12} {about}" for name, about in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs")
    parser.add_argument("--count", type=int, metavar="N", help="density: so many containers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="peers: draw them there, too (.svg or .png)")
    arguments = parser.parse_args()
    if arguments.picture and arguments.name != "peers":
        parser.error("--picture is for peers")
    if arguments.count and arguments.name != "density":
        parser.error("--count is for density")
    extra = {"count": arguments.count} if arguments.count else {}
    report: Report = importlib.import_module(f"bench.{arguments.name}").run(arguments.quick, **extra)
    report.show(Console())
    if arguments.json:
        arguments.json.write_bytes(report.json() + b"\n")
    if arguments.picture:
        importlib.import_module("bench.peers.picture").draw(report, arguments.picture)


if __name__ == "__main__":
    main()
