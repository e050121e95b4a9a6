"""fastcontainer agent | files | launcher | userlb | userproxy | webdispatcher | doctor: what runs on a machine."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from dispatcher.cli.output import Json, print_json, print_table, say
from dispatcher.cli.session import settings
from dispatcher.problems import Code, Problem

# Started by name: the command line may import neither the proxies above it nor the launcher, which runs without site-packages.
_MODULES = {"userproxy": "addons.userproxy", "webdispatcher": "addons.webdispatcher"}


def add_to(root: typer.Typer) -> None:
    root.command()(agent)
    root.command()(doctor)
    root.command()(userlb)
    root.command()(files)
    for name, help in (
        ("launcher", "The parent of all containers of this host (root)."),
        ("userproxy", "The proxy in front: finds an app's container and holds requests while it starts."),
        ("webdispatcher", "The proxy of this host's containers."),
    ):
        root.command(name, help=help, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(
            _process
        )


def _process(context: typer.Context) -> None:
    replace_by(context.info_name or "", context.args)


def replace_by(name: str, arguments: Sequence[str]) -> NoReturn:
    """This process becomes that one."""
    if name == "launcher":
        from importlib.util import find_spec

        found = find_spec("containerlib.launcher")
        assert found is not None and found.origin is not None
        where = settings()
        command = [sys.executable, "-SI", found.origin, where.launcher_socket, f"{where.run_dir}/stage"]
        environment = {}  # PID 1 of a container is a copy of the launcher until it becomes its init
    else:
        command = [sys.executable, "-m", _MODULES[name], *arguments]
        environment = dict(os.environ)
    sys.stdout.flush()
    os.execve(command[0], command, environment)


def agent(
    clean: Annotated[
        bool, typer.Option("--clean", help="End all containers of this host and leave nothing behind.")
    ] = False,
) -> None:
    """The agent of this host: starts, watches and stops its containers (root)."""
    if os.geteuid() != 0:
        raise Problem(Code.FORBIDDEN, "the agent runs as root", hint="sudo fastcontainer agent")
    from dispatcher.compute import daemon

    try:
        if not clean:
            daemon.main(settings())
            return
        ended = daemon.clean(settings())
    except BlockingIOError as error:
        raise Problem(Code.BUSY, str(error), hint="two would take each other's containers for left-overs") from error
    for life in ended:
        say(f"ended {life}")


def userlb() -> None:
    """The entry point: HAProxy, with a lane for each warm site, and who keeps the lanes."""
    from dispatcher.userlb import daemon

    daemon.main(settings())


def files() -> None:
    """Serves what apps let be served without waking them (front.static), to this host's UserLB."""
    from dispatcher.userlb import files as service

    service.main(settings())


def doctor(json: Json = False) -> None:
    """What this host offers and lacks, with the remedy. Ends with 1 if something is missing that is needed."""
    from dispatcher.compute.doctor import State, examine

    findings = examine(settings())
    if json:
        print_json(findings)
    else:
        rows = [(each.state.value, each.what, each.found, each.remedy) for each in findings]
        print_table(("", "WHAT", "FOUND", "REMEDY"), rows)
    missing = [each for each in findings if each.state is State.MISSING]
    if missing:
        if not json:
            say(f"{len(missing)} missing")
        raise typer.Exit(1)
