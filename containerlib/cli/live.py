"""container run | attach | audit | kill | reload | list: containers that live, or are to."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from containerlib.cli.failure import EXISTS, FAILED, FORBIDDEN, INVALID, UNKNOWN, Failure
from containerlib.cli.files import Files, Names, read, selected
from containerlib.cli.output import Json, print_json, print_table, say
from containerlib.units import format_duration, parse_duration

if TYPE_CHECKING:
    from containerlib.enter import Door
    from containerlib.standalone.places import Record, Settings

Running = Annotated[list[str], typer.Argument(help="Names of containers.", show_default=False, metavar="NAME...")]
COLUMNS = ("NAME", "STATUS", "PID", "ADDRESS", "AGE", "RUNNER", "IMAGE", "DEFINITION")
FOUND = ("SEVERITY", "WHAT", "FOUND", "REMEDY")


def add_to(root: typer.Typer) -> None:
    for verb in (run, attach, audit, kill, reload):
        root.command()(verb)
    root.command("list")(list_)


def run(
    context: typer.Context,
    files: Files,
    names: Names = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when it is ready.")] = False,
    json: Json = False,
) -> None:
    """Start what files define: here, with this terminal, or detached. After `--`: a command instead of the definition's."""
    from containerlib.standalone.places import Record, Taken
    from containerlib.standalone.run import Job, NotStarted, run_detached, run_here

    specs = selected(read(*files), names)
    need_root("run a container")
    command = tuple(context.obj or ())
    if (len(specs) > 1 and not detach) or (len(specs) > 1 and command):
        known = ", ".join(spec.name for spec in specs)
        raise Failure(f"one at a time: {known}", hint="choose with --name, or run all with --detach", code=INVALID)
    paths = tuple(Path(file).absolute() for file in files)
    jobs = [Job(spec.name, paths, settings_of_host(), command) for spec in specs]
    started: list[Record] = []
    try:
        if not detach:
            outcome = run_here(jobs[0])
            if outcome.failure:
                raise Failure(f"{jobs[0].name}: {outcome.failure}", code=outcome.exit_code or FAILED)
            raise typer.Exit(outcome.exit_code)
        for job in jobs:
            started.append(run_detached(job))
    except Taken as error:
        raise Failure(str(error), code=EXISTS) from error
    except NotStarted as error:
        raise Failure(f"{jobs[len(started)].name}: {error}") from error
    except OSError as error:
        raise Failure(f"this host cannot run it: {error}") from error
    if json:
        print_json([_as_json(record) for record in started])
    else:
        for record in started:
            say(f"running: {record.name} at {record.address}, PID {record.pid}")


def attach(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a container.", show_default=False)],
    user: Annotated[
        str, typer.Option("--user", "-u", help="Instead of its program's: USER[:GROUP], names or numbers.")
    ] = "",
) -> None:
    """A shell inside, or the command after `--`, as its user: container attach blog -- ls -l /srv"""
    from containerlib.enter import Ended, enter

    need_root("enter a container")
    record = record_of(name)
    door = _door(record, user)
    try:
        raise typer.Exit(enter(door, list(context.obj or ())))
    except Ended as error:
        raise Failure(str(error), hint="container list", code=UNKNOWN) from error


def audit(
    name: Annotated[str, typer.Argument(help="Name of a container.", show_default=False)],
    json: Json = False,
) -> None:
    """What it could do: its privileges, what it shares with the host, limits that are missing."""
    from dataclasses import asdict

    from containerlib import security
    from containerlib.enter import Ended
    from containerlib.observed import observe

    need_root("look into a container")
    record = record_of(name)
    door = _door(record)
    try:
        found = security.audit(observe(door))
    except Ended as error:
        raise Failure(str(error), hint="container list", code=UNKNOWN) from error
    if json:
        print_json([asdict(each) for each in found])
    else:
        print_table(FOUND, ((each.severity, each.what, each.found, each.remedy) for each in found))


def kill(
    names: Running,
    signal: Annotated[str, typer.Option("--signal", "-s", help="First; its definition's unless given.")] = "",
    grace: Annotated[str, typer.Option("--grace", "-t", help="Then SIGKILL, after so long: 10s.")] = "",
) -> None:
    """Stop containers, and clear away after those whose runner has died."""
    from containerlib.checks import SpecError, signal_number
    from containerlib.standalone.places import is_held, wait_until_free
    from containerlib.standalone.run import clear_away

    need_root("stop a container")
    request: dict[str, object] = {"ask": "stop"}
    try:
        if signal:
            request["signal"] = signal_number("signal", signal).name
        if grace:
            request["grace_s"] = parse_duration(grace)
    except (SpecError, ValueError) as error:
        raise Failure(str(error), code=INVALID) from error
    settings = settings_of_host()
    for name in names:
        record_of(name)
        if is_held(settings, name):
            ask_runner(settings, name, request)
            wait_until_free(settings, name)
        else:
            clear_away(settings, name)
        say(f"stopped: {name}")


def reload(names: Running) -> None:
    """Have definitions read anew, and applied as far as that is possible while they run."""
    need_root("reload a container")
    for name in names:
        record_of(name)
        say(f"{name}: {ask_runner(settings_of_host(), name, {'ask': 'reload'})}")


def list_(json: Json = False) -> None:
    """Containers that run, and those that a runner left which died."""
    from containerlib.standalone.places import records

    need_root("see what runs")
    found = records(settings_of_host())
    if json:
        print_json([_as_json(record) for record in found])
        return
    print_table(COLUMNS, (_row(record) for record in found))


def _row(record: "Record") -> Sequence[str]:
    age = format_duration(max(0, round(time.time() - record.started)))
    pid = str(record.pid) if record.pid else ""
    return (record.name, _status(record), pid, record.address, age, str(record.runner), record.image, record.source)


def _as_json(record: "Record") -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(record), "status": _status(record)}


def _status(record: "Record") -> str:
    from containerlib.standalone.places import is_held

    return record.status if is_held(settings_of_host(), record.name) else "abandoned"


def settings_of_host() -> "Settings":
    from containerlib.standalone.places import Settings

    return Settings.of(os.environ)


def record_of(name: str) -> "Record":
    from containerlib.standalone.places import read_record

    if "/" in name or (record := read_record(settings_of_host(), name)) is None:
        raise Failure(f"no container {name!r} runs here", hint="container list", code=UNKNOWN)
    return record


def _door(record: "Record", words: str = "") -> "Door":
    """`words`: who to be inside, if not its program's user."""
    from containerlib.enter import Door

    found = (record.name, record.pid, record.cgroups, record.id_base, record.workdir, record.env)
    if not words:
        return Door(*found, record.user, record.group, record.groups)
    from containerlib.checks import SpecError
    from containerlib.images import ImageError, Store
    from containerlib.standalone.resolving import named_user

    image, _, version = record.image.partition("@")
    try:
        root = Store(settings_of_host().roots).get(image, version).root if image else None
        door = Door(*found, *named_user(words, root))
        door.owner  # noqa: B018 - raises for an id that a container has not
    except (SpecError, ImageError, ValueError) as error:
        raise Failure(str(error), code=INVALID) from error
    return door


def ask_runner(settings: "Settings", name: str, request: dict[str, object]) -> str:
    from containerlib.standalone.control import Refused, ask

    try:
        return ask(settings.run_dir / name / "control.sock", request, None)
    except Refused as error:
        raise Failure(f"{name}: {error}") from error
    except OSError as error:
        raise Failure(f"the runner of {name} does not answer: {error}", hint="container list") from error


def need_root(what: str) -> None:
    if os.geteuid() != 0:
        raise Failure(f"only root can {what}", hint="sudo", code=FORBIDDEN)
