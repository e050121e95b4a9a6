"""The words of this system, as types. Pure: values only.

app        a site, a row apps/APP/*
container  a row containers/APP/ID, registered on one Compute
life       one run of a container, "APP/ID.GENERATION": the key of logs, usage and events
successor  a container started to replace one that drains; containers that drain are not counted
blank      a prepared process that awaits an identity
"""

import re
from enum import StrEnum
from signal import Signals
from typing import Annotated

import msgspec

from dispatcher import units

_APP_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DOMAIN = re.compile(r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_URL_PATH = re.compile(r"/|(?:/[A-Za-z0-9._~-]+)+/?")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

CONTAINERS_MAX = 1000  # of one app
MAINTENANCE_PAGE_BYTES_MAX = 64 << 10
UID_FIRST, UID_LAST = (
    200_000,
    2_000_000_000,
)  # above every distribution's own users, below the sign bit that some tools trip over


class Switch(StrEnum):
    ON = "on"
    OFF = "off"
    MAINTENANCE = "maintenance"


class Status(StrEnum):
    """Of a container, as its row and its agent tell it. Transitions are in dispatcher/compute/state.py, nowhere else."""

    REGISTERED = "registered"  # asleep: costs this row
    STARTING = "starting"
    RUNNING = "running"
    FROZEN = "frozen"  # asleep with its memory: nothing of it runs until it is thawed
    DRAINING = "draining"
    FAILED = "failed"  # waits out its back-off

    def is_alive(self) -> bool:
        """A process of it exists, or may exist at any moment."""
        return self in (Status.STARTING, Status.RUNNING, Status.FROZEN, Status.DRAINING)


class WhileStarting(StrEnum):
    HOLD = "hold"
    PAGE = "page"


class Start(StrEnum):
    """How an app that fell silent comes back. What fails falls back to cold."""

    COLD = "cold"  # stopped, and started anew
    FROZEN = "frozen"  # stopped in its tracks, and thawed: it costs its memory
    RESTORED = "restored"  # stopped, and begun again from an image of its processes: no memory, and no boot
    AUTO = "auto"  # whichever of them its own starts show to be worth it


class ImageAt(StrEnum):
    """When the image of its processes is taken that an app is restored from, once for each definition."""

    LISTEN = "listen"  # right before its first listen(): nothing is open yet, and each life goes through the rest of its boot
    READY = "ready"  # before its first request, which waits for that
    WARMED = "warmed"  # when it falls silent for the first time: caches are full, and nobody waits


class Cause(StrEnum):
    """Why a container was started."""

    REQUEST = "request"
    LIFESPAN = "lifespan"  # successor of one that grew too old
    SCALE = "scale"  # more containers were asked for while the app was awake
    MANUAL = "manual"


class Mount(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    source: str  # absolute path on the Compute
    target: str  # absolute path in the container
    readonly: bool = False

    def __post_init__(self) -> None:
        for name, path in (("source", self.source), ("target", self.target)):
            if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
                raise ValueError(f"mount {name} {path!r} is not an absolute path without '..'")


Seconds = Annotated[float, msgspec.Meta(ge=0)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    idle_s: PositiveSeconds = 60.0  # silence after which it sleeps
    lifespan_s: PositiveSeconds = 86400.0  # age at which it is replaced, traffic or not
    # A life ends this share of its lifespan earlier at most, so that lives do not end together.
    lifespan_jitter: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.1
    drain_grace_s: Seconds = 30.0  # how long what is in flight may take once it has to go for its age
    stop_grace_s: Seconds = 0.15  # between SIGTERM and SIGKILL; nothing is in flight by then
    start_timeout_s: PositiveSeconds = 30.0
    response_timeout_s: PositiveSeconds = 120.0  # with the start and the queue, the one deadline of a request
    start: Start = Start.COLD
    image_at: ImageAt = ImageAt.WARMED
    # Tells a program that it was restored, such as USR1: its random numbers and connections are to be new. None: it is not told.
    restore_signal: str | None = None
    while_starting: WhileStarting = WhileStarting.HOLD
    health_path: str | None = None  # ready means that this answers below 500, too
    concurrency: Annotated[int, msgspec.Meta(ge=1)] | None = None  # absent: the lesser of 32 and the listen backlog
    queue_max: Annotated[int, msgspec.Meta(ge=0)] = 1000  # requests of this app that wait in one proxy
    boot_cpu: str = "100%"  # until it listens
    server_timing: bool = False
    sticky: bool = False  # a cookie leads visitors back to the container that answered them, in a lane
    wake_by_bots: bool = False  # listed bots and health checkers may wake it

    def __post_init__(self) -> None:
        units.parse_cpu(self.boot_cpu)
        if self.restore_signal is not None and f"SIG{self.restore_signal}" not in Signals.__members__:
            raise ValueError(f"restore_signal {self.restore_signal!r} is no signal such as USR1")


IoRate = Annotated[int, msgspec.Meta(ge=1, le=1 << 50)]


class Io(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Bytes and operations a second, of each container on each disk that it reaches; None: no limit."""

    read_bps: IoRate | None = None
    write_bps: IoRate | None = None
    read_iops: IoRate | None = None
    write_iops: IoRate | None = None


class Front(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the UserLB does for an app before, or instead of, a container. Rates are averaged over ten seconds."""

    https: bool = False  # plain requests are sent to https
    hsts_s: Annotated[int, msgspec.Meta(ge=1, le=10 * 366 * 86400)] | None = (
        None  # browsers come by https alone for so long
    )
    requests_per_s: Annotated[float, msgspec.Meta(ge=0.1, le=1e6)] | None = None  # more are answered 429
    client_requests_per_s: Annotated[float, msgspec.Meta(ge=0.1, le=1e6)] | None = None  # of one client's address
    in_flight_max: Annotated[int, msgspec.Meta(ge=1)] | None = (
        None  # requests under way, waiting ones included; more are answered 429
    )
    body_bytes_max: Annotated[int, msgspec.Meta(ge=1, le=1 << 50)] | None = None  # of a request; more is answered 413
    maintenance_page: str = ""  # HTML, shown to browsers while the switch stands on `maintenance`
    # URL path -> path in the container, beneath a mount. One that ends with `/` is a tree. Served without waking the app.
    static: Annotated[dict[str, str], msgspec.Meta(max_length=64)] = {}

    def __post_init__(self) -> None:
        if len(self.maintenance_page.encode()) > MAINTENANCE_PAGE_BYTES_MAX:
            raise ValueError(f"front.maintenance_page has more than {MAINTENANCE_PAGE_BYTES_MAX} bytes")
        if self.hsts_s is not None and not self.https:
            raise ValueError("front.hsts_s needs front.https: a browser that was told so cannot come otherwise")
        for url, path in self.static.items():
            if not _URL_PATH.fullmatch(url):
                raise ValueError(
                    f"front.static {url!r} is not a path such as /robots.txt or /assets/ of A-Z, a-z, 0-9 and ._~/-"
                )
            if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
                raise ValueError(f"front.static {path!r} is not an absolute path without '..'")
            if url.endswith("/") != path.endswith("/"):
                raise ValueError(f"front.static {url!r}: {path!r} is not alike; a tree ends with '/' on both sides")


Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class AppSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """apps/APP/spec. What people change while it runs (count, cpu, memory, switch) has keys of its own."""

    command: tuple[str, ...] = ()  # may be absent with an image that has one
    port: Port = 80
    mounts: tuple[Mount, ...] = ()
    env: dict[str, str] = {}
    workdir: str = "/"
    pids: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)] = 256
    outbound: bool = True  # may reach other hosts, where this one forwards
    host_ports: Annotated[
        tuple[Port, ...], msgspec.Meta(max_length=64)
    ] = ()  # TCP ports of the Compute itself that it may reach
    # Bits a second that each container may send, and receive; None: no limit. Changed while it runs.
    bandwidth_bps: Annotated[int, msgspec.Meta(ge=8_000, le=1 << 50)] | None = None
    io: Io = Io()  # changed while it runs
    init: bool = True  # a tiny init is PID 1, reaps and forwards signals
    image: str = ""  # its root: the current version of this one on the Compute; absent: the Compute's own /usr
    definition: str = ""  # of the operator's, on the Compute: what this spec leaves at its default is as that says
    policy: Policy = Policy()
    front: Front = Front()

    def __post_init__(self) -> None:
        if not (self.command or self.image or self.definition):
            raise ValueError("command: an app needs one, or an image or a definition that has one")
        if self.definition and not _APP_NAME.fullmatch(self.definition):
            raise ValueError(f"definition {self.definition!r} is not a name of 1 to 63 of a-z, 0-9 and '-'")
        if self.image and not _IMAGE.fullmatch(self.image):
            raise ValueError(
                f"image {self.image!r} is not a name of 1 to 63 of a-z, 0-9, '.', '_' and '-' that begins with a letter or digit"
            )
        if not self.workdir.startswith("/"):
            raise ValueError(f"workdir {self.workdir!r} is not an absolute path")
        # An image that a definition brings is refused by the start: what the two come to is such a value, too.
        if self.policy.start is Start.RESTORED and self.image and not self.definition:
            raise ValueError("policy.start 'restored' is not possible with an image yet; 'frozen' is")
        if any("\0" in word for word in (*self.command, *self.env, *self.env.values())):
            raise ValueError("command and env may not contain a NUL character")
        if any(not name or "=" in name for name in self.env):
            raise ValueError("a name in env is empty or contains '='")


class Scaling(msgspec.Struct, frozen=True, omit_defaults=True):
    """apps/APP/scaling: what the policy decided; it counts where the hand-written key is `auto` or absent."""

    containers: int | None = None
    cpu: float | None = None  # cores
    memory_bytes: int | None = None
    at: float = 0.0
    reason: str = ""


class App(msgspec.Struct, frozen=True):
    """One app with its effective values: the hand-written word unless it is `auto` or absent, then scaling's, then the default."""

    name: str
    spec: AppSpec
    containers: int = 1
    cpu: float | None = None  # cores for each container; None: no limit
    memory_bytes: int | None = None  # None: no limit
    switch: Switch = Switch.ON
    uid: int | None = None  # user id of its processes; None until it is allocated


class ContainerRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """containers/APP/ID. Written by anyone while `registered`, from then on by the agent of its Compute alone."""

    compute: str
    status: Status = Status.REGISTERED
    generation: int = 0  # of the current or last life; counts up at each start
    address: str = ""  # HOST:PORT that a proxy on any host can dial
    local_address: str = ""  # HOST:PORT that a proxy on this Compute dials
    cpu: str = ""  # effective, as a word
    memory: str = ""
    image: str = (
        ""  # NAME@VERSION of the image that this life runs on; with the Compute's own /usr, version of its /etc
    )
    started: float = 0.0  # Unix time
    expires: float = 0.0  # Unix time at which its lifespan ends
    reason: str = ""  # why it failed, drains or was started


class ComputeRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """computes/NAME, under its agent's lease."""

    dispatcher: str  # HOST:PORT of its Web Dispatcher
    cores: float
    memory_bytes: int
    cpu_committed: float = 0.0
    memory_committed_bytes: int = 0
    containers: int = 0  # alive


class EventRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """events/APP/ID; the ID sorts by time. `key` and `value` name what was refused, where something was."""

    at: float
    kind: str  # refused, started, ready, failed, draining, stopped, scaled, cut ...
    message: str
    container: str = ""
    life: str = ""
    key: str = ""
    value: str = ""
    compute: str = ""


def life_name(app: str, container: str, generation: int) -> str:
    return f"{app}/{container}.{generation}"


def check_app_name(name: str) -> str:
    if not _APP_NAME.fullmatch(name):
        raise ValueError(f"app name {name!r} is not 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends")
    return name


def check_domain(domain: str) -> str:
    """Lower-case host name without port or trailing dot, international names in their xn-- form; a first label `*` stands for any
    name below."""
    if len(domain) > 253 or not _DOMAIN.fullmatch(domain):
        raise ValueError(
            f"domain {domain[:260]!r} is not a lower-case host name such as blog.example.com or *.example.com"
        )
    return domain
