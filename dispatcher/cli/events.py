"""fastcontainer events"""

import contextlib
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import typer
from msgspec.structs import asdict

from dispatcher.cli.output import Json, print_json, print_json_line, print_table, say
from dispatcher.cli.session import with_store
from dispatcher.cmdb import keys
from dispatcher.cmdb.store import Store
from dispatcher.domain import EventRow

COLUMNS = ("TIME", "APP", "EVENT", "MESSAGE")


def add_to(root: typer.Typer) -> None:
    root.command()(events)


def events(
    app: Annotated[str, typer.Argument(help="Only of this app.", show_default=False)] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many of those that are over.")] = 50,
    json: Json = False,
) -> None:
    """What happened to apps: starts with their causes, stops, failures, refused values. With --json and -f one object a line."""
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            with_store(lambda store: _follow(store, app, limit, json))
        return
    from dispatcher.coreapi.views import list_events

    found = with_store(lambda store: list_events(store, app))
    latest = found[-limit:] if limit else []
    if json:
        print_json([_as_json(*each) for each in latest])
    else:
        print_events(latest)


def print_events(found: Iterable[tuple[str, EventRow]]) -> None:
    print_table(COLUMNS, (_cells(app, event) for app, event in found))


async def _follow(store: Store, app: str, limit: int, json: bool) -> None:
    from dispatcher.coreapi.views import event_of

    prefix = keys.events_prefix(app) if app else keys.EVENTS
    past, revision = await _past(store, prefix)
    for each in past[-limit:] if limit else []:
        _print_line(*each, json=json)
    async with contextlib.aclosing(store.watch(prefix, revision + 1)) as batches:
        async for batch in batches:
            for change in batch.events:
                found = None if change.value is None else event_of(change.key, change.value)
                if found is not None:
                    _print_line(*found, json=json)


async def _past(store: Store, prefix: str) -> tuple[list[tuple[str, EventRow]], int]:
    """What has happened, and the revision of the store that knew it."""
    from dispatcher.coreapi.views import event_of

    found, revision = [], 0
    async for page in store.pages(prefix):
        revision = page.revision
        found += [event_of(key, value.value) for key, value in page.items]
    return sorted((each for each in found if each is not None), key=lambda each: each[1].at), revision


def _print_line(app: str, event: EventRow, *, json: bool) -> None:
    if json:
        print_json_line(_as_json(app, event))
    else:
        at, app, kind, message = _cells(app, event)
        say(f"{at}  {app:16} {kind:10} {message}")


def _as_json(app: str, event: EventRow) -> dict[str, object]:
    return {"app": app, **asdict(event)}


def _cells(app: str, event: EventRow) -> tuple[str, str, str, str]:
    at = datetime.fromtimestamp(event.at).isoformat(" ", "milliseconds")
    subject = event.life or (f"{app}/{event.container}" if event.container else app)
    about = f" ({event.key} = {event.value!r})" if event.key else ""
    return at, subject, event.kind, event.message + about
