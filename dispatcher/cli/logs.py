"""fastcontainer logs"""

import contextlib
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from dispatcher.cli.lifelog import AppReader, Line
from dispatcher.cli.output import print_json_line, say
from dispatcher.cli.session import settings
from dispatcher.domain import check_app_name
from dispatcher.problems import Code, Problem

POLL_S = 0.2


def add_to(root: typer.Typer) -> None:
    root.command()(logs)


def logs(
    app: Annotated[str, typer.Argument(help="Name of the app.", show_default=False)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C, into the lives to come.")] = False,
    life: Annotated[str, typer.Option("--life", help="Only this life, such as blog/1.3.", show_default=False)] = "",
    stderr: Annotated[bool, typer.Option("--stderr", help="Only what it wrote to standard error.")] = False,
    tail: Annotated[
        int, typer.Option("--tail", "-n", min=0, help="At most so many of the lines that are there.")
    ] = 200,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """What an app's containers on this Compute wrote to stdout and stderr."""
    only = _one_life(app, life)
    directory = Path(settings().log_dir) / "lives" / app
    reader = AppReader(directory, app, only)
    try:
        _print_past(reader, directory, follow=follow, stderr=stderr, tail=tail, json=json)
        if only and not follow and only not in reader.lives():
            raise Problem(Code.UNKNOWN_CONTAINER, f"there is no log of life {app}/{only} on this Compute")
        with contextlib.suppress(KeyboardInterrupt):
            while follow:
                time.sleep(POLL_S)
                with contextlib.suppress(FileNotFoundError):
                    _print(_wanted(reader.new_lines(), stderr), json)
    except PermissionError as error:
        raise Problem(Code.FORBIDDEN, f"{directory} cannot be read: {error}", hint="logs are root's: sudo") from error
    finally:
        reader.close()


def _print_past(reader: AppReader, directory: Path, *, follow: bool, stderr: bool, tail: int, json: bool) -> None:
    try:
        lines = deque(_wanted(reader.new_lines(), stderr), maxlen=tail)
    except FileNotFoundError as error:
        if follow:
            return
        hint = "it has not run here, or on another Compute: fastcontainer ps -a"
        raise Problem(Code.UNKNOWN_CONTAINER, f"there are no logs in {directory}", hint=hint) from error
    _print(lines, json)


def _one_life(app: str, life: str) -> str:
    try:
        check_app_name(app)
    except ValueError as error:
        raise Problem(Code.INVALID, str(error)) from error
    owner, _, name = life.rpartition("/")
    if owner not in ("", app) or (life and not name.replace(".", "", 1).isdigit()):
        raise Problem(Code.INVALID, f"life: {life!r} is not a life of app {app}", hint=f"such as {app}/1.3")
    return name


def _wanted(lines: Iterable[Line], stderr: bool) -> Iterable[Line]:
    return (line for line in lines if line.stream == "err" or not stderr)


def _print(lines: Iterable[Line], json: bool) -> None:
    for line in lines:
        if json:
            print_json_line(line._asdict())
        else:
            say(f"{line.at} {line.life} {line.stream} {line.text}")
