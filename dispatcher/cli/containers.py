"""fastcontainer ps | start | stop | exec | audit"""

import time
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import asdict

from dispatcher.cli.output import Json, print_json, print_table, say
from dispatcher.cli.session import ask_agent, settings, with_store
from dispatcher.domain import Status
from dispatcher.units import format_duration

if TYPE_CHECKING:
    from dispatcher.coreapi.views import Container

COLUMNS = ("LIFE", "STATUS", "COMPUTE", "ADDRESS", "AGE", "EXPIRES IN", "CPU", "MEMORY", "REASON")
FOUND = ("SEVERITY", "WHAT", "FOUND", "REMEDY")

App = Annotated[str, typer.Argument(help="Name of the app.", show_default=False)]
One = Annotated[
    str, typer.Option("--container", help="Only this one, by its number.", metavar="ID", show_default=False)
]


def add_to(root: typer.Typer) -> None:
    root.command()(ps)
    root.command()(start)
    root.command()(stop)
    root.command("exec")(exec_)
    root.command()(audit)


def ps(
    app: Annotated[str, typer.Argument(help="Only of this app.", show_default=False)] = "",
    every: Annotated[bool, typer.Option("--all", "-a", help="Those that sleep, too.")] = False,
    json: Json = False,
) -> None:
    """The containers that are alive or failed."""
    from dispatcher.coreapi.views import list_containers

    found = with_store(lambda store: list_containers(store, app))
    shown = [each for each in found if every or each.row.status is not Status.REGISTERED]
    if json:
        print_json([as_json(each) for each in shown])
        return
    print_table(COLUMNS, (container_row(each) for each in shown))


def as_json(container: "Container") -> dict[str, object]:
    """With the values that the row leaves out because they are the usual ones."""
    return {"app": container.app, "id": container.id, "life": container.life, **asdict(container.row)}


def container_row(container: "Container") -> tuple[str, ...]:
    row, now = container.row, time.time()
    alive = row.status.is_alive()
    return (
        container.life,
        row.status.value,
        row.compute,
        (row.address or row.local_address) if alive else "",
        _length(now - row.started) if alive and row.started else "",
        _length(row.expires - now) if alive and row.expires else "",
        row.cpu,
        row.memory,
        row.reason,
    )


def _length(seconds: float) -> str:
    return format_duration(max(0, round(seconds)))


def start(app: App, container: One = "", json: Json = False) -> None:
    """Start an app's containers on this Compute now, without waiting for a request."""
    from dispatcher.compute.protocol import Answer, Start

    answer = ask_agent(Start(id=1, app=app, container=container))
    lives = (answer.live.life,) if isinstance(answer, Answer) else getattr(answer, "lives", ())
    _done("running", lives, json)


def stop(
    app: App,
    container: One = "",
    now: Annotated[bool, typer.Option("--now", help="Do not wait for what is in flight.")] = False,
    json: Json = False,
) -> None:
    """Drain and stop an app's containers on this Compute. The next request wakes it again, unless it is switched off."""
    from dispatcher.compute.protocol import Done, Stop

    answer = ask_agent(Stop(id=1, app=app, container=container, now=now))
    _done("stopped", answer.lives if isinstance(answer, Done) else (), json)


def _done(what: str, lives: tuple[str, ...], json: bool) -> None:
    if json:
        print_json({what: list(lives)})
    else:
        say(
            f"{what}: {', '.join(lives)}"
            if lives
            else f"nothing to do: none of its containers is here and not already {what}"
        )


def exec_(
    app: App,
    command: Annotated[list[str] | None, typer.Argument(help="A shell unless given.", show_default=False)] = None,
    container: One = "",
) -> None:
    """Run a command inside a live container, as its user: fastcontainer exec blog -- ls -l /srv"""
    from dispatcher.compute.enter import enter
    from dispatcher.compute.link import visit
    from dispatcher.compute.protocol import Enter

    with visit(settings().agent_socket, Enter(id=1, app=app, container=container)) as door:
        raise typer.Exit(enter(door, command or []))


def audit(app: App, container: One = "", json: Json = False) -> None:
    """What a live container could do: its privileges, what it shares with the host, limits that are missing."""
    from dataclasses import asdict

    from dispatcher.compute.audit import audit as look
    from dispatcher.compute.link import visit
    from dispatcher.compute.protocol import Enter

    with visit(settings().agent_socket, Enter(id=1, app=app, container=container)) as door:
        found = look(door)
    if json:
        print_json([asdict(each) for each in found])
    else:
        print_table(FOUND, ((each.severity, each.what, each.found, each.remedy) for each in found))
