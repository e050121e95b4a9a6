"""The cgroup trees of this machine: where ours lie, and the few things done with one."""

import errno
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from containerlib.cgroups import limits
from containerlib.cgroups.limits import FileContent, IoLimits, Limits

MOUNT = Path("/sys/fs/cgroup")
CONTROLLERS_V1 = ("cpu", "memory", "pids", "freezer")
RECLAIMS = 3  # attempts to get memory back before a lower limit is refused
CONTROLLERS_V2 = ("cpu", "memory", "pids")
ON_DEMAND_V1 = ("blkio",)
MOVES = 50  # passes over a group's processes, to bring them into another hierarchy while they fork


@dataclass(frozen=True, slots=True)
class Tree:
    """`bases`: controller -> our directory there; on v2 the one tree under the name "". `on_demand`: the same of hierarchies in
    which only groups that need them have a directory."""

    version: int
    bases: dict[str, Path]
    on_demand: dict[str, Path] = field(default_factory=dict)

    def create(self, name: str) -> "Group":
        group = self.group(name)
        for directory in group.directories():
            directory.mkdir(parents=True, exist_ok=True)
        return group

    def group(self, name: str) -> "Group":
        return Group(self, name)

    def names(self) -> set[str]:
        """Of all groups that exist under ours, whoever made them."""
        bases = (*self.bases.values(), *self.on_demand.values())
        return {entry.name for base in bases if base.is_dir() for entry in base.iterdir() if entry.is_dir()}

    def remove(self) -> None:
        """Our own directories, once they are empty."""
        for base in {*self.bases.values(), *self.on_demand.values()}:
            if base.is_dir():
                base.rmdir()

    def enable(self, controller: str) -> None:
        """v2: from now on in all our groups. Raises OSError where it cannot be had."""
        base = self.bases[""]
        for directory in (base.parent, base):
            if controller in _read(directory / "cgroup.subtree_control").split():
                continue
            if controller not in _read(directory / "cgroup.controllers").split():
                raise OSError(f"cgroup v2 controller not available in {directory}: {controller}")
            (directory / "cgroup.subtree_control").write_text(f"+{controller}")


@dataclass(frozen=True, slots=True)
class Group:
    tree: Tree
    name: str

    def directories(self) -> tuple[Path, ...]:
        # Hierarchies mounted together (cpu,cpuacct) are one directory under two names.
        usual = dict.fromkeys(base / self.name for base in self.tree.bases.values())
        own = (base / self.name for base in self.tree.on_demand.values())
        return (*usual, *(each for each in own if each.is_dir()))

    def entrances(self) -> tuple[str, ...]:
        """Files to which a process of one thread writes `0`, and is in. To bring another one in, or a whole process by the file for
        that, v1 must first hold up every fork and exit on the host: 2 to 4 ms of waiting for RCU in each hierarchy."""
        name = "tasks" if self.tree.version == 1 else "cgroup.procs"
        return tuple(f"{directory}/{name}" for directory in self.directories())

    def set_cpu(self, cpu: float | None) -> None:
        self.write(limits.v1_cpu(cpu) if self.tree.version == 1 else limits.v2_cpu(cpu))

    def set_memory(self, amount_bytes: int | None) -> None:
        """Raises OSError (EBUSY) where more is in use and cannot be given back."""
        if self.tree.version == 2 and amount_bytes is not None:
            self._make_fit(amount_bytes)
        self.write(limits.v1_memory(amount_bytes) if self.tree.version == 1 else limits.v2_memory(amount_bytes))

    def set_pids(self, count: int | None) -> None:
        self.write(limits.v1_pids(count) if self.tree.version == 1 else limits.v2_pids(count))

    def set_limits(self, wanted: Limits, *, before: Limits | None = None) -> None:
        """What is in force `before` is not written again; None: nothing is known of it."""
        if before is None or wanted.cpu != before.cpu:
            self.set_cpu(wanted.cpu)
        if before is None or wanted.memory_bytes != before.memory_bytes:
            self.set_memory(wanted.memory_bytes)
        if before is None or wanted.pids != before.pids:
            self.set_pids(wanted.pids)

    def set_io(self, wanted: Mapping[str, IoLimits]) -> None:
        """`wanted`: by MAJOR:MINOR of whole disks; of others what was set stays. Raises OSError. Blocks for milliseconds when a
        group is limited for the first time (see `entrances`). v1 holds reads, and writes around the page cache, only."""
        self.have_io()
        for device, io in wanted.items():
            self.write(limits.v1_io(device, io) if self.tree.version == 1 else limits.v2_io(device, io))

    def have_io(self) -> None:
        """Limits of io can be written from now on, and count for all its processes. Raises OSError."""
        if self.tree.version == 2:
            self.tree.enable("io")
        elif "blkio" not in self.tree.bases:
            if "blkio" not in self.tree.on_demand:
                raise OSError(f"cgroup v1 hierarchy not mounted under {MOUNT}: blkio")
            self._move_into(self.tree.on_demand["blkio"] / self.name)

    def has_io(self) -> bool:
        """It was limited once, and may be still."""
        if self.tree.version == 2:
            return bool(self._text("", "io.max").strip())
        base = self.tree.on_demand.get("blkio")
        return base is not None and (base / self.name).is_dir()

    def _move_into(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        gone: set[int] = set()
        for _ in range(
            MOVES
        ):  # what was forked by one that is in is in; what was forked before is met in the next pass
            inside = {int(line) for line in _read(directory / "cgroup.procs").split()}
            outside = set(self.processes()) - inside - gone
            if not outside:
                return
            for pid in outside:
                try:
                    (directory / "cgroup.procs").write_text(str(pid))
                except ProcessLookupError:
                    gone.add(pid)
        raise OSError(errno.EBUSY, "its processes fork faster than they can be moved", str(directory))

    def freeze(self) -> None:
        """Begins it: `is_frozen` tells when the last process has stopped, which one that waits for a disk may put off."""
        self.write((limits.v1_freezer(True) if self.tree.version == 1 else limits.v2_freezer(True),))

    def thaw(self) -> None:
        """Harmless to one that is not frozen, and to one that is gone."""
        with suppress(FileNotFoundError):
            self.write((limits.v1_freezer(False) if self.tree.version == 1 else limits.v2_freezer(False),))

    def is_frozen(self) -> bool:
        if self.tree.version == 1:
            # FREEZING is what it says while some have not stopped yet.
            return self._text("freezer", "freezer.state").strip() == "FROZEN"
        return self._field("", "cgroup.events", "frozen") == 1

    def memory_bytes(self) -> int:
        """In use now, page cache included."""
        return int(self._text("memory", self._name("memory.usage_in_bytes", "memory.current")) or 0)

    def reclaim(self, amount_bytes: int) -> int:
        """Has the kernel take back up to so much of a frozen group's memory, at once; returns by how much less it uses. What has
        no copy on a disk goes to the host's swap, or stays where there is none. Blocks for 1 ms in 4 MiB without swap."""
        before = self.memory_bytes()
        try:
            if self.tree.version == 1:
                self._squeeze(max(before - amount_bytes, 0))
            else:
                self.write((FileContent("", "memory.reclaim", str(amount_bytes), required=False),))
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EAGAIN):  # v1, v2: not so much could be had
                raise
        return max(0, before - self.memory_bytes())

    def _squeeze(self, limit_bytes: int) -> None:
        """cgroup v1 has no file for it, but a limit below what is in use reclaims, too. The one that was there comes back at once:
        one that starts to run meanwhile would be killed for it."""
        limit = self._text("memory", "memory.limit_in_bytes").strip()
        try:
            self.write((FileContent("memory", "memory.limit_in_bytes", str(limit_bytes)),))
        finally:
            self.write((FileContent("memory", "memory.limit_in_bytes", limit),))

    def oom_kills(self) -> int:
        """Processes of this group that the kernel killed for its memory limit. 0 where the kernel does not say."""
        return self._field("memory", self._name("memory.oom_control", "memory.events"), "oom_kill")

    def pids_refused(self) -> int:
        """How often a fork failed for the limit on processes."""
        return self._field("pids", "pids.events", "max")

    def processes(self) -> list[int]:
        directory = self.directories()[0]
        return [int(line) for line in _read(directory / "cgroup.procs").split()]

    def remove(self, *, wait_s: float = 2.0) -> None:
        """Off every path that somebody waits on: a group stays busy for a moment after its last process was reaped."""
        deadline = time.monotonic() + wait_s
        for directory in self.directories():
            while True:
                try:
                    directory.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.005)

    def _make_fit(self, amount_bytes: int) -> None:
        """v1 refuses a limit below what is in use; v2 takes it and kills."""
        directory = self.directories()[0]
        for attempt in range(RECLAIMS + 1):
            excess = int(_read(directory / "memory.current") or 0) - amount_bytes
            if excess <= 0:
                return
            if attempt < RECLAIMS:
                # It fails where less than that could be given back, and is not there before 5.19.
                with suppress(OSError):
                    (directory / "memory.reclaim").write_text(str(excess))
        raise OSError(errno.EBUSY, f"{excess + amount_bytes} bytes are in use", str(directory / "memory.max"))

    def _name(self, v1: str, v2: str) -> str:
        return v1 if self.tree.version == 1 else v2

    def _text(self, controller: str, name: str) -> str:
        base = self.tree.bases.get(controller) or self.tree.bases.get("")
        return _read(base / self.name / name) if base else ""

    def _field(self, controller: str, name: str, field: str) -> int:
        for line in self._text(controller, name).splitlines():
            key, _, value = line.partition(" ")
            if key == field:
                return int(value)
        return 0

    def write(self, contents: tuple[FileContent, ...]) -> None:
        for content in contents:
            # On the way of a request: os.open takes a quarter of what a file object takes.
            base = self.tree.bases.get(content.controller) or self.tree.on_demand[content.controller]
            path = f"{base}/{self.name}/{content.name}"
            try:
                fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
            except FileNotFoundError:
                if content.required:
                    raise
                continue
            try:
                os.write(fd, content.value.encode())
            finally:
                os.close(fd)


def _read(path: Path) -> str:
    """Empty of a group that is gone, or goes while its file is open."""
    try:
        return path.read_text()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        return ""


def find(name: str, more: tuple[str, ...] = ()) -> Tree:
    """Our tree, made where this process may make it, with `more` controllers than usual. Raises OSError naming those that are
    missing."""
    if version() == 2:
        return _find_v2(name, _with(CONTROLLERS_V2, more))
    return _find_v1(name, _with(CONTROLLERS_V1, more))


def version() -> int:
    """Of cgroups, on this host."""
    return 2 if (MOUNT / "cgroup.controllers").exists() else 1


def _with(usual: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*usual, *more)))


def _find_v1(name: str, controllers: tuple[str, ...]) -> Tree:
    """Below the group that this process is in: whoever limits us limits our containers too."""
    own = dict(_own_groups())
    missing = [controller for controller in controllers if controller not in own or not (MOUNT / controller).is_dir()]
    if missing:
        raise OSError(f"cgroup v1 hierarchies not mounted under {MOUNT}: {', '.join(missing)}")

    def base(controller: str) -> Path:
        return MOUNT / controller / own[controller].strip("/") / name

    there = (each for each in ON_DEMAND_V1 if each in own and (MOUNT / each).is_dir() and each not in controllers)
    return Tree(1, {each: base(each) for each in controllers}, {each: base(each) for each in there})


def _find_v2(name: str, controllers: tuple[str, ...]) -> Tree:
    """Below our own group where systemd delegated it, else at the top, where every controller can be had."""
    own = MOUNT / dict(_own_groups())[""].strip("/")
    parent = own if own != MOUNT and _is_delegated(own) else MOUNT
    available = (parent / "cgroup.controllers").read_text().split()
    missing = [controller for controller in controllers if controller not in available]
    if missing:
        raise OSError(f"cgroup v2 controllers not available in {parent}: {', '.join(missing)}")
    if parent != MOUNT:
        # A group with processes of its own may not hand controllers down: this process moves to a leaf first.
        leaf = parent / "agent"
        leaf.mkdir(exist_ok=True)
        for pid in _read(parent / "cgroup.procs").split():
            (leaf / "cgroup.procs").write_text(pid)
    base = parent / name
    base.mkdir(exist_ok=True)
    for directory in (parent, base):
        (directory / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in controllers))
    return Tree(2, {"": base})


def _is_delegated(directory: Path) -> bool:
    """systemd's own mark for Delegate=yes."""
    try:
        return os.getxattr(directory, "trusted.delegate") == b"1" or os.getxattr(directory, "user.delegate") == b"1"
    except OSError:
        return False


def _own_groups() -> list[tuple[str, str]]:
    return parse_groups(Path("/proc/self/cgroup").read_text())


def parse_groups(text: str) -> list[tuple[str, str]]:
    """(controller, path) of each line of /proc/PID/cgroup; v2 under the name ""."""
    groups = []
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        groups += [(controller, path) for controller in controllers.split(",")]
    return groups
