"""How much a container may use. Pure."""

import re
import resource
from dataclasses import dataclass

from containerlib.checks import SpecError, no_doubles, one_of, text, whole
from containerlib.units import CPU_MAX, CPU_MIN, MEMORY_MIN

PIDS = 256
PIDS_MAX = 1_000_000
RLIMITS = frozenset(name.removeprefix("RLIMIT_").lower() for name in dir(resource) if name.startswith("RLIMIT_"))
NUMBER_MAX = (1 << 63) - 1
_FILE = re.compile(r"[a-z][a-z0-9_]*(?:\.[A-Za-z0-9_]+)+")
_DEVICE = re.compile(r"\d+:\d+|/dev/[\w./-]+")
# Of the container's own group these decide what is in it and who is told; they are no limits.
_NOT_SETTINGS = (
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.kill",
    "cgroup.event_control",
    "cgroup.subtree_control",
    "cgroup.type",
)


@dataclass(frozen=True, slots=True)
class Io:
    """Of one block device, `8:0` or its file; bytes and operations a second, None: no limit."""

    device: str
    read_bps: int | None = None
    write_bps: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(text("cgroup.io device", self.device)) or ".." in self.device:
            raise SpecError("cgroup.io device", self.device, "is not MAJOR:MINOR or a file in /dev")
        for name in ("read_bps", "write_bps", "read_iops", "write_iops"):
            if (value := getattr(self, name)) is not None:
                whole(f"cgroup.io {name}", value, 1, NUMBER_MAX)


@dataclass(frozen=True, slots=True)
class Setting:
    """A cgroup file by its own name, where the host has that version of cgroups."""

    version: int
    file: str
    value: str

    def __post_init__(self) -> None:
        field = f"cgroup.v{self.version}"
        if not _FILE.fullmatch(text(field, self.file)) or self.file in _NOT_SETTINGS:
            raise SpecError(field, self.file, "is not a setting such as cpu.weight")
        text(f"{field} {self.file}", self.value)

    @property
    def controller(self) -> str:
        return self.file.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Cgroup:
    """`cpu` in cores. None: no limit."""

    cpu: float | None = None
    memory_bytes: int | None = None
    pids: int = PIDS
    io: tuple[Io, ...] = ()
    settings: tuple[Setting, ...] = ()

    def __post_init__(self) -> None:
        if self.cpu is not None and not CPU_MIN <= self.cpu <= CPU_MAX:
            raise SpecError("cgroup.cpu", self.cpu, f"is not from {CPU_MIN} to {CPU_MAX} cores")
        if self.memory_bytes is not None:
            whole("cgroup.memory", self.memory_bytes, MEMORY_MIN, NUMBER_MAX)
        whole("cgroup.pids", self.pids, 2, PIDS_MAX)
        no_doubles("cgroup.io", [each.device for each in self.io])


@dataclass(frozen=True, slots=True)
class Rlimit:
    """`name` without RLIMIT_, in lower case; None: unlimited."""

    name: str
    soft: int | None
    hard: int | None

    def __post_init__(self) -> None:
        one_of("rlimit", self.name, RLIMITS)
        for value in (self.soft, self.hard):
            if value is not None:
                whole(f"rlimit {self.name}", value, 0, NUMBER_MAX)
        if self.hard is not None and (self.soft is None or self.soft > self.hard):
            raise SpecError(f"rlimit {self.name}", self.soft, f"is more than its hard limit {self.hard}")

    @property
    def number(self) -> int:
        return int(getattr(resource, f"RLIMIT_{self.name.upper()}"))

    def values(self) -> tuple[int, int]:
        """(soft, hard) as setrlimit wants them."""
        infinite = resource.RLIM_INFINITY
        return (infinite if self.soft is None else self.soft, infinite if self.hard is None else self.hard)
