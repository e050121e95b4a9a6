"""fastcontainer app create | list | show | edit | remove"""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import asdict

from dispatcher.cli import spec
from dispatcher.cli.flags import Flags, with_flags
from dispatcher.cli.output import Json, print_json, print_table, printable, say
from dispatcher.cli.session import settings, with_store
from dispatcher.domain import App, AppSpec
from dispatcher.problems import Code, Problem
from dispatcher.units import format_cpu, format_memory

if TYPE_CHECKING:
    from dispatcher.coreapi.views import AppView

group = typer.Typer(help="Sites: create, look, change, remove.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the app.", show_default=False)]


@group.command()
@with_flags
def create(name: Name, flags: Flags, json: Json = False) -> None:
    """Create an app; it sleeps until its first request.

    fastcontainer app create blog --domain blog.localhost --run "php -S 0.0.0.0:80 -t /srv/www" --mount ./www:/srv/www
    """
    from dispatcher.coreapi.service import create_app

    new = spec.new_spec(flags, str(Path.cwd()))
    domains, compute = flags.domain or [], settings().compute
    with_store(lambda store: create_app(store, name, new, domains=domains, words=flags.words(), compute=compute))
    _done(name, "created", json)
    if not domains and not json:
        say(f"It has no domain yet: fastcontainer app edit {name} --domain {name}.localhost")


@group.command("list")
def list_(json: Json = False) -> None:
    """All apps, with their domains and how many containers are alive."""
    from dispatcher.coreapi.views import list_apps

    found = with_store(list_apps)
    if json:
        print_json(found)
        return
    print_table(
        ("APP", "SWITCH", "ALIVE", "CPU", "MEMORY", "DOMAINS"),
        (
            (each.name, *_words(each.app, each.alive), " ".join(each.domains))
            for each in found
        ),
    )  # fmt: skip


def _words(app: App | None, alive: int) -> tuple[str, str, str, str]:
    if app is None:
        return "its spec does not parse", str(alive), "", ""
    return app.switch.value, f"{alive}/{app.containers}", cpu_word(app.cpu), memory_word(app.memory_bytes)


def cpu_word(cores: float | None) -> str:
    return "no limit" if cores is None else format_cpu(cores)


def memory_word(amount_bytes: int | None) -> str:
    return "no limit" if amount_bytes is None else format_memory(amount_bytes)


@group.command()
def show(name: Name, json: Json = False) -> None:
    """Spec, effective values, containers, refused values, recent events, why it last failed."""
    from dispatcher.cli.containers import as_json
    from dispatcher.coreapi.views import show_app

    view = with_store(lambda store: show_app(store, name))
    if json:
        containers = [as_json(each) for each in view.containers]
        print_json({**asdict(view), "containers": containers, "last_failure": view.last_failure})
        return
    _print_view(view)


def _print_view(view: "AppView") -> None:
    from dispatcher.cli.containers import COLUMNS, container_row
    from dispatcher.cli.events import print_events

    app = view.app
    facts = [("app", view.name), ("domains", " ".join(view.domains) or "none")]
    if app is not None:
        facts += [
            ("switch", app.switch.value),
            ("containers", f"{app.containers}{_written(view, 'containers')}"),
            ("cpu", f"{cpu_word(app.cpu)}{_written(view, 'cpu')}"),
            ("memory", f"{memory_word(app.memory_bytes)}{_written(view, 'memory')}"),
            ("user ids from", str(app.uid or "not allocated")),
        ]
    if view.scaling is not None and view.scaling.reason:
        facts.append(("scaling", view.scaling.reason))
    if view.last_failure:
        facts.append(("last failure", view.last_failure))
    for label, value in facts:
        say(f"{label:14}{value}")
    if app is not None:
        sys.stdout.write("spec " + _indented(spec.format_spec(app.spec)))
    for refusal in view.refused:
        say(f"refused: {refusal.key} = {refusal.value!r}: {refusal.rule}")
    sys.stdout.write("\n")
    print_table(COLUMNS, (container_row(each) for each in view.containers))
    if view.events:
        sys.stdout.write("\n")
        print_events([(view.name, event) for event in view.events])


def _written(view: "AppView", field: str) -> str:
    """Where an effective value comes from."""
    word = view.words.get(field, "")
    return " (by hand)" if word not in ("", "auto") else " (auto)" if view.scaling else " (default)"


def _indented(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines()) + "\n"


@group.command()
@with_flags
def edit(
    name: Name,
    flags: Flags,
    remove_domain: Annotated[list[str] | None, typer.Option("--remove-domain", show_default=False)] = None,
    remove_mount: Annotated[list[str] | None, typer.Option("--remove-mount", metavar="DST", show_default=False)] = None,
    remove_env: Annotated[list[str] | None, typer.Option("--remove-env", metavar="NAME", show_default=False)] = None,
    spec_file: Annotated[
        str | None,
        typer.Option("--spec", metavar="FILE", help="Take the whole spec from this JSON file; - is standard input."),
    ] = None,
    json: Json = False,
) -> None:
    """Change what is given and nothing else; without any flag, open the spec in $EDITOR.

    --domain, --mount and --env add or replace one; --cpu '' and the like go back to the default.
    """
    from dispatcher.coreapi.service import SpecChange, edit_app

    change: SpecChange | AppSpec | None = None
    unmount, unset, cwd = remove_mount or [], remove_env or [], str(Path.cwd())
    if spec_file is not None:
        change = spec.changed_spec(spec.parse_spec(_read(spec_file)), flags, cwd, unmount=unmount, unset=unset)
    elif not flags.are_given() and not remove_domain and not unmount and not unset:
        _edit_by_hand(name)
        _done(name, "changed", json)
        return
    elif flags.concern_spec() or unmount or unset:
        change = partial(spec.changed_spec, flags=flags, cwd=cwd, unmount=unmount, unset=unset)
    with_store(
        lambda store: edit_app(
            store,
            name,
            change=change,
            words=flags.words(),
            add_domains=flags.domain or (),
            remove_domains=remove_domain or (),
        )
    )
    _done(name, "changed", json)


def _edit_by_hand(name: str) -> None:
    from dispatcher.cli.editor import edited
    from dispatcher.coreapi.service import edit_app
    from dispatcher.coreapi.views import show_app

    view = with_store(lambda store: show_app(store, name))
    if view.app is None:
        rule = next((each.rule for each in view.refused if each.key.endswith("/spec")), "")
        hint = f"write it anew: fastcontainer app edit {name} --spec FILE"
        raise Problem(Code.INVALID, f"the spec of app {name} does not parse: {rule}", hint=hint)
    new = spec.parse_spec(edited(spec.format_spec(view.app.spec), name))
    if new != view.app.spec:
        with_store(lambda store: edit_app(store, name, change=new, revision=view.revision))


def _read(file: str) -> str:
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(Code.INVALID, f"spec: {file!r} cannot be read: {error}") from error


@group.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Remove an app, its domains and its containers; those that live are drained first. Its files stay."""
    from dispatcher.coreapi.service import remove_app

    if not yes:
        if json or not sys.stdin.isatty():
            raise Problem(Code.INVALID, f"nobody can be asked whether app {name} may go", hint="say --yes")
        typer.confirm(f"Remove app {name}, its domains and its containers?", abort=True)
    draining = with_store(lambda store: remove_app(store, name))
    if json:
        print_json({"app": name, "removed": True, "draining": draining})
        return
    say(f"app {name} removed" + (f"; its containers {', '.join(draining)} drain" if draining else ""))


def _done(name: str, what: str, json: bool) -> None:
    if json:
        print_json({"app": name, what: True})
    else:
        say(f"app {name} {what}")
