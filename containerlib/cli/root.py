"""The verbs put together, and the one place where an error becomes a message and an exit code."""

import sys
from collections.abc import Sequence

import typer

from containerlib.cli import checkpoints, files, images, live
from containerlib.cli.failure import INVALID, Failure, report
from containerlib.dsl import DefinitionError

root = typer.Typer(
    name="container",
    help="Containers that Python programs define: made, run, watched and ended on this host.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (files, images, live, checkpoints):
    module.add_to(root)


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What comes after `--` is somebody else's command."""
    place = words.index("--") if "--" in words else len(words)
    return list(words[:place]), list(words[place + 1 :])


def run(words: Sequence[str], program: str) -> int:
    """The exit code; a wrong call ends in SystemExit(2) from the parser itself."""
    own, rest = _split(words)
    try:
        root(args=own, prog_name=program, obj=rest)
    except DefinitionError as error:
        failure = Failure(str(error), code=INVALID)
    except Failure as error:
        failure = error
    except SystemExit as end:
        return int(end.code or 0)
    else:
        return 0
    sys.stdout.flush()
    report(failure, as_json="--json" in own)
    return failure.code
