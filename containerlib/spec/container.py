"""The whole of a container. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from containerlib.checks import SpecError, absolute_path, name, no_doubles, of_type, text, texts, variable
from containerlib.hooks import CgroupHook, Hook, SignalHandler, Timer
from containerlib.spec.checkpoint import Checkpoint
from containerlib.spec.filesystem import Hidden, Image, Mount, Root, Tmpfs, Usr
from containerlib.spec.lifecycle import Lifespan, Readiness
from containerlib.spec.network import NetworkAccess
from containerlib.spec.process import Log, Stop, User, check_id_base
from containerlib.spec.resources import Cgroup, Rlimit
from containerlib.spec.security import NAMESPACES, OPTIONAL_NAMESPACES, Security, check_namespaces

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """`id_base`: the first of the host's ids that are the container's; None: a range that nobody else has. `init`: a tiny init is
    PID 1, reaps and forwards signals. `metadata` is for people and hooks.
    On an image `command` and `workdir` may be empty: its own."""

    name: str
    command: tuple[str, ...]
    hostname: str = ""
    env: Mapping[str, str] = NOTHING
    workdir: str = ""
    user: User = field(default_factory=User)
    id_base: int | None = None
    root: Root = field(default_factory=Usr)
    mounts: tuple[Mount | Tmpfs, ...] = ()
    hidden: Hidden = field(default_factory=Hidden)
    namespaces: tuple[str, ...] = tuple(sorted(NAMESPACES | OPTIONAL_NAMESPACES))
    cgroup: Cgroup = field(default_factory=Cgroup)
    rlimits: tuple[Rlimit, ...] = ()
    security: Security = field(default_factory=Security)
    network: NetworkAccess = field(default_factory=NetworkAccess)
    readiness: Readiness = field(default_factory=Readiness)
    lifespan: Lifespan = field(default_factory=Lifespan)
    init: bool = True
    checkpoint: Checkpoint | None = None  # None: no image of it can be taken
    stop: Stop = field(default_factory=Stop)
    log: Log = field(default_factory=Log)
    metadata: Mapping[str, str] = NOTHING
    hooks: tuple[Hook, ...] = ()
    timers: tuple[Timer, ...] = ()
    cgroup_hooks: tuple[CgroupHook, ...] = ()
    signal_handlers: tuple[SignalHandler, ...] = ()
    source: str = field(default="", compare=False)  # file and line of its definition

    def __post_init__(self) -> None:
        name("name", self.name)
        if self.hostname:
            name("hostname", self.hostname)
        command = texts("command", self.command)
        if not (command[0] if command else isinstance(self.root, Image)):
            raise SpecError("command", self.command, "names no program")
        for key, value in self.env.items():
            text(f"env {variable('env', key)}", value)
        for key, value in self.metadata.items():
            text(f"metadata {text('metadata', key)}", value)
        if self.workdir:
            absolute_path("workdir", self.workdir)
        if self.id_base is not None:
            check_id_base(self.id_base)
        no_doubles("mount.target", [each.target for each in self.mounts])
        check_namespaces(self.namespaces)
        no_doubles("rlimit", [each.name for each in self.rlimits])
        of_type("init", self.init, bool, "True or False")
        # What a caller still holds may not change what was checked.
        object.__setattr__(self, "env", MappingProxyType(dict(self.env)))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    @property
    def host_name(self) -> str:
        return self.hostname or self.name
