"""What is said on the agent's Unix socket, as types: newline-delimited JSON, one tagged object a line, at most 1 MiB.

The peer's user id decides what it may say: a proxy's user `Attach`, `Ensure`, `Traffic` and `Responses`, root everything. A line
that does not parse ends the connection.

Order is the point of this protocol. After `Attach` the agent sends one `Live` for each of its live containers, then `Synced`,
then a `Live` or `Gone` at each change. When a proxy reads `Live(status=draining)` it sends the container no further request and
answers at once with a `Traffic` for that life (its count now, zero included) that names the `turn` it heard: the lines before it in
the stream are older, so the agent then knows all there is to know. A `Traffic` that was on its way already names none, and confirms
nothing. The agent stops a process only when every attached proxy has said so and the counts are zero.
`Live(status=frozen)` is the same: it comes before the process is frozen, a count above zero in answer takes it back, and who wants
the container then asks with `Ensure`. `Live(status=running)` follows when it runs again.
"""

from typing import Annotated

import msgspec

from dispatcher.domain import Cause, Status
from dispatcher.problems import Code

LINE_BYTES_MAX = 1 << 20


class Attach(msgspec.Struct, frozen=True, tag="attach"):
    """First line of a proxy, once: from now on its counts matter and live containers are pushed to it."""

    name: str  # userproxy, webdispatcher: for the log


class Ensure(msgspec.Struct, frozen=True, tag="ensure"):
    """Have a container of `app` run, `container` unless the agent knows a better one. Answered by `Answer` or `Refused`.

    Single flight: any number of these for one container start it once. Waits at most `wait_s`;
    a caller that gave up need not say so.
    """

    id: int
    app: str
    container: str
    wait_s: float
    cause: Cause = Cause.REQUEST
    detail: str = ""  # what is kept with the start event: method, host and path of the request that woke it, cut to 200 characters


class Traffic(msgspec.Struct, frozen=True, tag="traffic"):
    """Requests in flight per life, upgraded connections and streams included; only lives that changed. Sent when a life's count
    leaves zero or returns to it, else at most once a second."""

    in_flight: dict[str, Annotated[int, msgspec.Meta(ge=0)]]
    heard: int | None = None  # this answers the `Live` with that `turn`


class Digest(msgspec.Struct, frozen=True):
    """A second of one life's responses. Where `measured` is less than `requests`, nobody knows but that the others were alike."""

    at: float  # Unix time of its end
    requests: int  # that were given to it
    measured: int = 0
    queued: int = 0  # of those measured: had to wait for a place at it
    failed: int = 0  # of those measured: it died, was late or was cut
    total_ms: int = 0  # from dialling to the response's head, of those measured
    # dispatcher.compute.digest has their bounds and reads quantiles from them
    buckets: dict[int, int] = {}


class Responses(msgspec.Struct, frozen=True, tag="responses"):
    """Digests by life, of those that had requests. Once a second, for whoever decides how many there are to be."""

    of: dict[str, Digest]


class Start(msgspec.Struct, frozen=True, tag="start"):
    id: int
    app: str
    container: str = ""  # empty: all of the app
    wait_s: float = 30.0


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Drain, then stop. Answered by `Done` when the process is gone."""

    id: int
    app: str
    container: str = ""
    now: bool = False  # do not wait for what is in flight


class Enter(msgspec.Struct, frozen=True, tag="enter"):
    """Ask for what `fastcontainer exec` needs to join a live container. Answered by `Door`; until the connection ends the
    container counts as in use."""

    id: int
    app: str
    container: str = ""


class Live(msgspec.Struct, frozen=True, tag="live"):
    """A container on this Compute that runs, is frozen or drains: one that starts is nobody's business yet."""

    app: str
    container: str
    generation: int
    status: Status
    address: str  # HOST:PORT, "" until it has one
    concurrency: int = 32  # requests it may be given at once before it has answered any of them
    turn: int = 0  # counts up each time that it is to get no further request

    @property
    def life(self) -> str:
        return f"{self.app}/{self.container}.{self.generation}"


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    app: str
    container: str
    generation: int
    reason: str = ""


class Synced(msgspec.Struct, frozen=True, tag="synced"):
    """All live containers have been told."""

    compute: str


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """The container that runs; `phases` are milliseconds by phase name, empty if it was running already."""

    id: int
    live: Live
    phases: dict[str, float] = {}


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    id: int
    code: Code
    message: str
    hint: str = ""
    retry_after_s: float | None = None


class Door(msgspec.Struct, frozen=True, tag="door"):
    """How to enter: PID 1 of the container as the host numbers it, its cgroup directories, its user."""

    id: int
    life: str
    pid: int
    cgroups: tuple[str, ...]
    uid: int
    workdir: str
    env: dict[str, str]


class Done(msgspec.Struct, frozen=True, tag="done"):
    id: int
    lives: tuple[str, ...] = ()


ToAgent = Attach | Ensure | Traffic | Responses | Start | Stop | Enter
FromAgent = Live | Gone | Synced | Answer | Refused | Door | Done

_encoder = msgspec.json.Encoder()
_to_agent: msgspec.json.Decoder[ToAgent] = msgspec.json.Decoder(ToAgent)
_from_agent: msgspec.json.Decoder[FromAgent] = msgspec.json.Decoder(FromAgent)


def encode(message: ToAgent | FromAgent) -> bytes:
    return _encoder.encode(message) + b"\n"


def decode_to_agent(line: bytes) -> ToAgent:
    """Raises msgspec.ValidationError or msgspec.DecodeError (its parent)."""
    return _to_agent.decode(line)


def decode_from_agent(line: bytes) -> FromAgent:
    return _from_agent.decode(line)
