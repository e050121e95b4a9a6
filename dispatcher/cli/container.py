"""fastcontainer container ...: containerlib's own command line, under this name."""

from collections.abc import Sequence
from typing import NoReturn

import typer

PROGRAM = "fastcontainer container"


def add_to(root: typer.Typer) -> None:
    root.command("container", help=HELP, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(
        _lend
    )


HELP = "Containers that Python programs define, run on this host without the platform."


def _lend(context: typer.Context) -> None:
    hand_over(context.args)


def hand_over(arguments: Sequence[str]) -> NoReturn:
    from containerlib.cli import main

    main(arguments, program=PROGRAM)
    raise AssertionError("it ends in SystemExit")
