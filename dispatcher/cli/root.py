"""The commands put together, and the one place where a Problem becomes a message and an exit code."""

import sys
from collections.abc import Sequence

import typer

from dispatcher.cli import apps, certificates, container, containers, events, logs, processes
from dispatcher.cli.output import report
from dispatcher.problems import Problem

root = typer.Typer(
    name="fastcontainer",
    help="Web applications that sleep: started, sized, multiplied and replaced per HTTP request.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
root.add_typer(apps.group, name="app")
root.add_typer(certificates.group, name="certificate")
for module in (containers, logs, events, processes, container):
    module.add_to(root)


def run(words: Sequence[str]) -> int:
    """The exit code; a wrong call ends in SystemExit(2) from the parser itself."""
    try:
        root(args=list(words), prog_name="fastcontainer")
    except Problem as problem:
        sys.stdout.flush()
        report(problem, as_json="--json" in words)
        return problem.exit_code
    return 0
