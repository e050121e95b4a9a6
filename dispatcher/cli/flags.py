"""The flags that describe an app, declared once for `app create` and `app edit`."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any

import typer

from dispatcher.domain import ImageAt, Start, WhileStarting


def _flag(name: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(name, help=help, metavar=metavar, show_default=False)


Text = str | None
Many = list[str] | None


@dataclass(frozen=True)
class Flags:
    """None: not given."""

    run: Annotated[Text, _flag("--run", "The command; split as a shell would, but no shell runs it.", "COMMAND")] = None
    image: Annotated[
        Text, _flag("--image", "Run on the current version of this image; '' for the host's own programs.", "NAME")
    ] = None
    definition: Annotated[
        Text, _flag("--definition", "A definition of the operator's that says what is not said here.", "NAME")
    ] = None
    domain: Annotated[Many, _flag("--domain", "A host name that it answers to, *.example.com too; repeatable.")] = None
    mount: Annotated[Many, _flag("--mount", "A folder of the host in the container; repeatable.", "SRC:DST[:ro]")] = (
        None
    )
    env: Annotated[Many, _flag("--env", "A variable of its environment; repeatable.", "NAME=VALUE")] = None
    port: Annotated[int | None, _flag("--port", "Where it listens in its container: 80 unless given.")] = None
    workdir: Annotated[Text, _flag("--workdir", "The folder in which the command starts.")] = None
    pids: Annotated[int | None, _flag("--pids", "How many processes and threads it may have.")] = None
    init: Annotated[bool | None, _flag("--init/--no-init", "Run the command under a tiny init as PID 1.")] = None
    outbound: Annotated[bool | None, _flag("--outbound/--no-outbound", "Let it reach other hosts.")] = None
    host_ports: Annotated[
        Text, _flag("--host-ports", "TCP ports of the host that it may reach, such as 3306,6379; '' for none.", "PORTS")
    ] = None
    bandwidth: Annotated[
        Text,
        _flag("--bandwidth", "What each container may send, and receive, such as 10Mbit; '' for no limit.", "RATE"),
    ] = None
    io: Annotated[
        Text,
        _flag(
            "--io",
            "What each container may do on each disk in a second, such as read=10M,write=5M,reads=200,writes=100; '' for no limit.",
            "LIMITS",
        ),
    ] = None

    containers: Annotated[Text, _flag("--containers", "How many containers, or auto.")] = None
    cpu: Annotated[Text, _flag("--cpu", "Share of one core for each container such as 60%, or auto.")] = None
    memory: Annotated[Text, _flag("--memory", "Memory of each container such as 256M, or auto.")] = None
    switch: Annotated[Text, _flag("--switch", "on, off or maintenance.")] = None

    idle: Annotated[Text, _flag("--idle", "Silence after which it sleeps, such as 60s.", "TIME")] = None
    lifespan: Annotated[Text, _flag("--lifespan", "Age at which a container is replaced, such as 1h.", "TIME")] = None
    lifespan_jitter: Annotated[float | None, _flag("--lifespan-jitter", "Share by which a life may end early.")] = None
    drain_grace: Annotated[Text, _flag("--drain-grace", "For what is in flight when it is too old.", "TIME")] = None
    stop_grace: Annotated[Text, _flag("--stop-grace", "Between SIGTERM and SIGKILL.", "TIME")] = None
    start_timeout: Annotated[Text, _flag("--start-timeout", "How long a start may take.", "TIME")] = None
    response_timeout: Annotated[Text, _flag("--response-timeout", "How long one request may take.", "TIME")] = None
    start: Annotated[
        Start | None,
        _flag(
            "--start",
            "Silence stops it (cold), freezes it, which keeps its memory (frozen), makes an image to begin from (restored), "
            "or whichever pays (auto).",
        ),
    ] = None
    image_at: Annotated[
        ImageAt | None,
        _flag(
            "--image-at",
            "Take the image to begin from right before it listens (listen), before its first request (ready), or when it "
            "first falls silent (warmed).",
        ),
    ] = None
    restore_signal: Annotated[
        Text, _flag("--restore-signal", "Tells a program that it was restored, such as USR1; '' for none.", "SIGNAL")
    ] = None
    while_starting: Annotated[
        WhileStarting | None, _flag("--while-starting", "Let browsers wait (hold) or show them a waiting page (page).")
    ] = None
    health_path: Annotated[Text, _flag("--health-path", "Ready means that this answers below 500; '' for none.")] = None
    concurrency: Annotated[Text, _flag("--concurrency", "Requests it may be given at once, or auto.")] = None
    queue_max: Annotated[int | None, _flag("--queue-max", "How many requests may wait for it in one proxy.")] = None
    boot_cpu: Annotated[Text, _flag("--boot-cpu", "Share of one core until it listens, such as 100%.")] = None
    server_timing: Annotated[
        bool | None, _flag("--server-timing/--no-server-timing", "Tell clients the phases of a start.")
    ] = None
    sticky: Annotated[
        bool | None,
        _flag("--sticky/--no-sticky", "Lead visitors back to the container that answered them, by a cookie."),
    ] = None
    wake_by_bots: Annotated[
        bool | None, _flag("--wake-by-bots/--no-wake-by-bots", "Let listed bots and health checks wake it.")
    ] = None

    https: Annotated[bool | None, _flag("--https/--no-https", "Send plain requests to https (at a UserLB).")] = None
    hsts: Annotated[
        Text, _flag("--hsts", "Tell browsers to come by https alone for so long; '' to tell them nothing.", "TIME")
    ] = None
    requests: Annotated[Text, _flag("--requests", "Requests a second that it takes; '' for any number.", "RATE")] = None
    client_requests: Annotated[
        Text, _flag("--client-requests", "The same, of one client's address; '' for any number.", "RATE")
    ] = None
    in_flight: Annotated[
        Text, _flag("--in-flight", "Requests that may be under way, waiting ones included; '' for any number.", "COUNT")
    ] = None
    body_max: Annotated[
        Text, _flag("--body-max", "How large the body of a request may be, such as 10M; '' for any size.", "SIZE")
    ] = None
    maintenance_page: Annotated[
        Text, _flag("--maintenance-page", "HTML shown while its switch says maintenance; '' for ours.", "FILE")
    ] = None
    static: Annotated[
        Many,
        _flag(
            "--static",
            "A path, or a tree that ends with '/', served from a mount without waking it (at a UserLB); repeatable, '' for none.",
            "URL=PATH",
        ),
    ] = None

    def words(self) -> dict[str, str]:
        """What has a key of its own and is changed while it runs."""
        given = {"containers": self.containers, "cpu": self.cpu, "memory": self.memory, "switch": self.switch}
        return {field: word for field, word in given.items() if word is not None}

    def concern_spec(self) -> bool:
        elsewhere = {"containers", "cpu", "memory", "switch", "domain"}
        return any(getattr(self, field.name) is not None for field in fields(self) if field.name not in elsewhere)

    def are_given(self) -> bool:
        return self != Flags()


def with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command that takes `flags` one parameter for each field of Flags instead, for typer to read."""

    @functools.wraps(command)
    def expanded(**values: Any) -> None:
        flags = Flags(**{field.name: values.pop(field.name) for field in fields(Flags)})
        command(flags=flags, **values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [
        each.replace(kind=keyword) for each in inspect.signature(command).parameters.values() if each.name != "flags"
    ]
    added = [inspect.Parameter(field.name, keyword, default=None, annotation=field.type) for field in fields(Flags)]
    expanded.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    return expanded
