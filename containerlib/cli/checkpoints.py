"""container checkpoint | restore: images of running containers."""

from pathlib import Path
from typing import Annotated

import typer

from containerlib.checkpoint.images import Moment
from containerlib.cli.failure import EXISTS, UNKNOWN, Failure
from containerlib.cli.files import Names, read, selected
from containerlib.cli.live import ask_runner, need_root, record_of, settings_of_host
from containerlib.cli.output import Json, print_json, say
from containerlib.spec import ContainerSpec


def add_to(root: typer.Typer) -> None:
    root.command()(checkpoint)
    root.command()(restore)


def checkpoint(
    name: Annotated[str, typer.Argument(help="Name of a container that runs.", show_default=False)],
    leave_running: Annotated[
        bool, typer.Option("--leave-running", "-R", help="It goes on; else it ends with it.")
    ] = False,
    moment: Annotated[Moment, typer.Option(help="What to call the moment in its life.")] = Moment.READY,
) -> None:
    """Take an image of a container's processes, memory and files, to begin from later. Its definition needs c.checkpoint()."""
    need_root("look into a container's memory")
    if moment is Moment.HALTED:
        raise Failure("a container that runs is not halted", hint='c.checkpoint(before="listen") in its definition')
    record_of(name)
    request: dict[str, object] = {"ask": "checkpoint", "moment": moment.value, "leave_running": leave_running}
    say(f"{name}: {ask_runner(settings_of_host(), name, request)}")


def restore(
    what: Annotated[
        list[Path],
        typer.Argument(
            help="Definition files, or the name of a container.", show_default=False, metavar="NAME|FILE..."
        ),
    ],
    names: Names = None,
    image: Annotated[Path | None, typer.Option(help="Directory of one; the newest of its own unless given.")] = None,
    json: Json = False,
) -> None:
    """Start a container from its image, detached, with an address and logs of its own. Where that cannot be, it starts anew."""
    from dataclasses import asdict

    from containerlib.standalone.checkpointing import directory
    from containerlib.standalone.places import Taken
    from containerlib.standalone.run import Job, NotStarted, run_detached

    need_root("restore a container")
    spec, files = _defined(what, names)
    place = (image or directory(settings_of_host(), spec.name)).absolute()
    if not place.is_dir():
        raise Failure(
            f"there is no image of {spec.name}: {place} does not exist", hint="container checkpoint", code=UNKNOWN
        )
    try:
        record = run_detached(Job(spec.name, files, settings_of_host(), restore=place))
    except Taken as error:
        raise Failure(str(error), code=EXISTS) from error
    except NotStarted as error:
        raise Failure(f"{spec.name}: {error}") from error
    if json:
        print_json(asdict(record))
    else:
        say(f"{'restored' if record.restored else 'started anew'}: {record.name} at {record.address}, PID {record.pid}")


def _defined(what: list[Path], names: list[str] | None) -> tuple[ContainerSpec, tuple[Path, ...]]:
    """A name alone: its image knows which file defined it."""
    from containerlib.checkpoint.images import NoImage, newest
    from containerlib.standalone.checkpointing import directory

    if len(what) == 1 and what[0].name == str(what[0]) and not what[0].exists():
        try:
            source = newest(directory(settings_of_host(), str(what[0]))).manifest.source
        except NoImage as error:
            raise Failure(str(error), hint="container checkpoint", code=UNKNOWN) from error
        what, names = [Path(source.rpartition(":")[0])], [str(what[0])]
    specs = selected(read(*what), names)
    if len(specs) > 1:
        raise Failure(
            f"one at a time: {', '.join(spec.name for spec in specs)}", hint="choose with --name", code=UNKNOWN
        )
    return specs[0], tuple(each.absolute() for each in what)
