"""What a running container could do: facts about it -> findings, each with how bad it is and what to do. Pure.

    for finding in audit(observed.observe(door)):
        print(finding.severity, finding.what, finding.found, finding.remedy)

The lists here are this module's own and not the plan's: an audit that asked the plan would miss what the plan forgot.
"""

import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

_CAPABILITIES = """
    chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast
    net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice
    sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm
    block_suspend audit_read perfmon bpf checkpoint_restore
"""
CAPABILITIES = tuple(_CAPABILITIES.split())  # linux/capability.h, by number
NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")
_GRAVE_NAMESPACES = ("mnt", "pid", "net")
# Readable, they tell of the host's memory and keys; written to, they command it.
MASKED = ("kcore", "keys", "sysrq-trigger", "kallsyms", "timer_list", "sched_debug")
READONLY = ("/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/sys")
DEVICES = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)})  # null zero full random urandom tty ptmx
FILES_MAX = 1 << 20  # more open files than this is no limit
FILTER_MODE = 2  # of seccomp, in /proc/PID/status
_KERNELS_OWN = re.compile(r"/memfd:.*|/SYSV[0-9a-f]+.*|/dev/zero \(deleted\)|/\[aio\].*")


class Severity(StrEnum):
    HIGH = "high"  # a way to the host, or to a neighbour
    MEDIUM = "medium"  # one of several protections is not there, or others pay for it
    LOW = "low"
    INFO = "info"  # as it should be; who looks wants to know


@dataclass(frozen=True, slots=True)
class Finding:
    severity: Severity
    what: str
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class MountFact:
    id: int
    point: str
    filesystem: str
    options: frozenset[str]  # of the mount
    of_filesystem: frozenset[str]

    @property
    def is_writable(self) -> bool:
        return "ro" not in self.options and "ro" not in self.of_filesystem


@dataclass(frozen=True, slots=True)
class FileFact:
    """An open descriptor: what it is called, on which mount it lies, and st_mode and the numbers of a device."""

    fd: int
    target: str
    mount: int
    mode: int = stat.S_IFREG
    device: tuple[int, int] = (0, 0)

    @property
    def is_harmless(self) -> bool:
        """/dev/null and its like are the same everywhere; a FIFO (of a log) leads to who holds its other end, and no further."""
        return stat.S_ISFIFO(self.mode) or (stat.S_ISCHR(self.mode) and self.device in DEVICES)


@dataclass(frozen=True, slots=True)
class ProcessFact:
    """`pid`: the host's number. Capabilities are masks by the set's name in /proc/PID/status."""

    pid: int
    name: str
    uid: int  # the host's number, of the effective user
    capabilities: dict[str, int]
    seccomp: int
    filters: int
    no_new_privileges: bool
    files_max: int | None  # RLIMIT_NOFILE, hard; None: unlimited
    files: tuple[FileFact, ...]


@dataclass(frozen=True, slots=True)
class DeviceFact:
    name: str
    is_block: bool
    major: int
    minor: int


@dataclass(frozen=True, slots=True)
class Facts:
    processes: tuple[ProcessFact, ...]
    shared_namespaces: frozenset[str]  # with whoever looked
    uid_map: tuple[tuple[int, int, int], ...]  # inside, outside, count
    gid_map: tuple[tuple[int, int, int], ...]
    mounts: tuple[MountFact, ...]
    devices: tuple[DeviceFact, ...]
    sensitive: frozenset[str]  # those of MASKED that this kernel has
    limits: dict[str, int | float | None]  # memory (bytes), pids, cpu (cores); None: no limit
    links: tuple[str, ...]
    listening: tuple[tuple[str, int], ...]


def audit(facts: Facts) -> tuple[Finding, ...]:
    """The gravest first."""
    order = list(Severity)
    found = [finding for rule in RULES for finding in rule(facts)]
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def capability_names(mask: int) -> list[str]:
    """A number newer than this list is told by itself."""
    numbers = [number for number in range(64) if mask >> number & 1]
    return [CAPABILITIES[number] if number < len(CAPABILITIES) else f"capability {number}" for number in numbers]


def _capabilities(facts: Facts) -> Iterator[Finding]:
    own = "user" not in facts.shared_namespaces  # then they count for that namespace alone
    for process in facts.processes:
        for name, mask in process.capabilities.items():
            if not mask:
                continue
            may = name in ("CapEff", "CapPrm", "CapAmb")
            severity = (Severity.MEDIUM if own else Severity.HIGH) if may else Severity.LOW
            names = " ".join(capability_names(mask))
            yield Finding(
                severity,
                f"capabilities {name}",
                f"{_who(process)}: {names}",
                "only what its definition asks for: else start it anew",
            )


def _privileges(facts: Facts) -> Iterator[Finding]:
    for process in facts.processes:
        if process.seccomp != FILTER_MODE or not process.filters:
            yield Finding(
                Severity.HIGH, "system calls", f"{_who(process)}: no filter", "stop it; see containerlib/seccomp.py"
            )
        if not process.no_new_privileges:
            yield Finding(
                Severity.HIGH, "new privileges", f"{_who(process)}: setuid programs would give it theirs", "stop it"
            )
        if process.uid == 0:
            yield Finding(
                Severity.HIGH, "user", f"{_who(process)}: is the host's root", "stop it; give it a user of its own"
            )


def _namespaces(facts: Facts) -> Iterator[Finding]:
    for name in sorted(facts.shared_namespaces):
        severity = Severity.HIGH if name in _GRAVE_NAMESPACES else Severity.MEDIUM
        remedy = "fastcontainer doctor tells whether this kernel has them" if name == "user" else "stop it"
        yield Finding(severity, f"namespace {name}", "the host's own", remedy)


def _maps(facts: Facts) -> Iterator[Finding]:
    if "user" in facts.shared_namespaces:
        return
    for name, extents in (("uid_map", facts.uid_map), ("gid_map", facts.gid_map)):
        if not extents:
            yield Finding(Severity.MEDIUM, name, "nothing is mapped", "stop it")
        for inside, outside, count in extents:
            if outside < 1 << 16:
                last = outside + count - 1
                found = f"{inside} is {outside} on the host, up to {last}: people and services have those"
                yield Finding(Severity.HIGH, name, found, "allocate its ids above 65,535")


def _mounts(facts: Facts) -> Iterator[Finding]:
    device_mount = _holder(facts.mounts, "/dev")
    masks = {f"/proc/{name}" for name in MASKED}
    for mount in facts.mounts:
        if mount.point in masks or not mount.is_writable:
            continue
        if "nosuid" not in mount.options:
            yield Finding(
                Severity.MEDIUM, "mount without nosuid", f"{mount.point} ({mount.filesystem})", "mount it nosuid"
            )
        # Where the container's own devices lie it cannot be forbidden: they are looked at one by one.
        if "nodev" not in mount.options and mount is not device_mount:
            yield Finding(
                Severity.MEDIUM, "mount without nodev", f"{mount.point} ({mount.filesystem})", "mount it nodev"
            )
        if mount.filesystem not in ("tmpfs", "proc"):
            yield Finding(Severity.INFO, "writable mount", f"{mount.point} ({mount.filesystem})")


def _paths(facts: Facts) -> Iterator[Finding]:
    points = {mount.point: mount for mount in facts.mounts}
    for name in sorted(facts.sensitive):
        if f"/proc/{name}" not in points:
            yield Finding(Severity.HIGH, "path not masked", f"/proc/{name}", "start it anew; see plan.py")
    for path in READONLY:
        holder = _holder(facts.mounts, path)
        if holder is None or holder.is_writable:
            yield Finding(Severity.HIGH, "path not read-only", path, "start it anew; see plan.py")


def _devices(facts: Facts) -> Iterator[Finding]:
    for device in facts.devices:
        if device.is_block or (device.major, device.minor) not in DEVICES:
            kind = "block" if device.is_block else "character"
            found = f"/dev/{device.name} ({kind} {device.major}:{device.minor})"
            yield Finding(Severity.HIGH, "device", found, "stop it, and find out who made it")


def _limits(facts: Facts) -> Iterator[Finding]:
    for name in ("memory", "pids", "cpu"):
        if facts.limits.get(name) is None:
            severity = Severity.LOW if name == "cpu" else Severity.MEDIUM
            yield Finding(severity, f"no limit of {name}", "none but the host's own", f"limit its {name}")
    for process in facts.processes:
        if process.files_max is None or process.files_max > FILES_MAX:
            most = "unlimited" if process.files_max is None else str(process.files_max)
            yield Finding(
                Severity.LOW, "open files", f"{_who(process)}: {most}", f"a hard RLIMIT_NOFILE of at most {FILES_MAX}"
            )


def _files(facts: Facts) -> Iterator[Finding]:
    own = {mount.id for mount in facts.mounts}
    for process in facts.processes:
        for file in process.files:
            if (
                not file.target.startswith("/")
                or _KERNELS_OWN.fullmatch(file.target)
                or file.mount in own
                or file.is_harmless
            ):
                continue
            terminal = file.target.startswith("/dev/pts/")  # of an exec: a pseudo-terminal of its own
            severity = Severity.LOW if terminal else Severity.HIGH
            found = f"{_who(process)}: descriptor {file.fd} is {file.target} of the host"
            yield Finding(severity, "open file", found, "end the exec" if terminal else "stop it")


def _network(facts: Facts) -> Iterator[Finding]:
    if more := sorted(set(facts.links) - {"lo", "eth0"}):
        yield Finding(Severity.MEDIUM, "links", " ".join(more), "it was wired for eth0 alone")
    for address, port in facts.listening:
        yield Finding(Severity.INFO, "listens", f"{address} port {port}")


RULES: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _capabilities, _privileges, _namespaces, _maps, _mounts, _paths, _devices, _limits, _files, _network,
)  # fmt: skip


def _holder(mounts: tuple[MountFact, ...], path: str) -> MountFact | None:
    """On which mount a path lies: the longest point above it, and of several there the last, which covers the others."""
    above = [
        mount for mount in mounts if mount.point == "/" or path == mount.point or path.startswith(f"{mount.point}/")
    ]
    return max(enumerate(above), key=lambda each: (len(each[1].point), each[0]))[1] if above else None


def _who(process: ProcessFact) -> str:
    return f"{process.name} ({process.pid})"
