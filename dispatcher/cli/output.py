"""What people and scripts read: as containerlib's own command line prints it, and problems."""

import sys

import msgspec

from containerlib.cli.output import Json, print_json, print_json_line, print_table, printable, say
from dispatcher.problems import Problem

__all__ = ["Json", "print_json", "print_json_line", "print_table", "printable", "report", "say"]


def report(problem: Problem, *, as_json: bool) -> None:
    """A problem on standard error."""
    if as_json:
        error = {"code": problem.code, "message": problem.message, "hint": problem.hint}
        sys.stderr.write(msgspec.json.encode({"error": error}).decode() + "\n")
        return
    sys.stderr.write(f"fastcontainer: {printable(problem.message)}\n")
    if problem.hint:
        sys.stderr.write(f"  {printable(problem.hint)}\n")
