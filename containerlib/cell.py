"""What a program of an image build runs in: namespaces of its own that end with the build, whatever ends the build.

    python -SI containerlib/cell.py CONTROL ORDER [HELD ...]        (all numbers of descriptors)

Three processes. The outer one waits: for the end of the inside, and for the end of whoever holds the other end of CONTROL, in
which case it kills the inside and waits until nothing of it is left. PID 1 of the new pid namespace makes the mounts, starts
the program, reaps, and says over CONTROL how the program ended: {"status": WAIT_STATUS} or {"failed": what, "step": where}.
HELD is the build's lock: the outer process keeps it open, so that no other build begins while a program of a dead one lives.
Limits are a control group that the builder has made (bounds.py): PID 1 enters it before it makes a mount, and if the builder is
dead by then the outer process, which is not in it, removes it.

With a `Container` the program sees that root and nothing else of the host but, if it may, its network. Standard library only.
"""

import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - -I removed it

from containerlib import kernel
from containerlib.blank import reset_signals
from containerlib.operations import (
    BindReadonly,
    ChangeDirectory,
    DetachMountTree,
    EnterGroup,
    EnterRoot,
    ForbidCoreDumps,
    ForbidNewPrivileges,
    LeaveSessionKeyring,
    LoadFilter,
    MakeDevice,
    MakeDirectory,
    MakeSymlink,
    Mask,
    MountProc,
    MountSysfs,
    MountTmpfs,
    Operation,
    SetHostname,
    WriteFile,
)
from containerlib.plan import DEVICES, MASKED, READONLY

_OWN = "/run/.provision"
SCRIPT = f"{_OWN}/script"
SCRATCH_BYTES = 1 << 30  # of /tmp, /run and /dev/shm each: memory, so not without a limit
SCRATCH_INODES = 100_000
GROUP_S = 2.0


# What dpkg and maintainer scripts need: files of any owner, other users, chroot (dpkg itself), file capabilities, and PAM, whose
# su fails where it cannot write to the audit log. Not among them: mounts, devices, modules, ptrace, the network's settings, and
# opening files by handle, which would reach those outside of the root.
CAPABILITIES = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SYS_CHROOT": 18,
    "AUDIT_WRITE": 29,
    "SETFCAP": 31,
}


@dataclass(frozen=True, slots=True)
class Container:
    """`files`: path -> text, put over what the root has there while the program runs; `script` is executed from SCRIPT."""

    root: str
    hostname: str
    network: bool
    script: str
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    command: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str = "/"
    container: Container | None = None
    groups: tuple[str, ...] = ()  # directories of its control group
    entrances: tuple[str, ...] = ()  # files of it to write 0 to
    system_calls: str = ""  # of a program in a container: the filter of seccomp.py, in hexadecimal digits

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> "Order":
        values = json.loads(text)
        container = values.pop("container")
        for name in ("command", "groups", "entrances"):
            values[name] = tuple(values[name])
        return cls(**values, container=None if container is None else Container(**container))


@dataclass(frozen=True, slots=True)
class BindRoot(Operation):
    """pivot_root wants a mount; and no device file of an image is one here."""

    path: str

    def execute(self) -> None:
        kernel.mount(self.path, self.path, "", kernel.MS_BIND)
        kernel.mount("none", self.path, "", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_NODEV | kernel.MS_NOSUID)


@dataclass(frozen=True, slots=True)
class MakeMountPoint(Operation):
    """What is there already keeps its owner and mode: it is the image's."""

    path: str

    def execute(self) -> None:
        if not Path(self.path).is_dir():
            MakeDirectory(self.path).execute()


@dataclass(frozen=True, slots=True)
class ChangeMode(Operation):
    path: str
    mode: int

    def execute(self) -> None:
        Path(self.path).chmod(self.mode)


@dataclass(frozen=True, slots=True)
class MountDevpts(Operation):
    path: str

    def execute(self) -> None:
        kernel.mount("devpts", self.path, "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, "newinstance,ptmxmode=666")


@dataclass(frozen=True, slots=True)
class RaiseLoopback(Operation):
    def execute(self) -> None:
        siocsifflags, iff_up = 0x8914, 1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, siocsifflags, struct.pack("16sH14x", b"lo", iff_up))


@dataclass(frozen=True, slots=True)
class KeepCapabilities(Operation):
    """These of what this process has, for itself and whatever it executes, and none that comes back through inheritance."""

    numbers: tuple[int, ...]

    def execute(self) -> None:
        for number in range(kernel.last_capability() + 1):
            if number not in self.numbers:
                kernel.prctl(kernel.PR_CAPBSET_DROP, number)
        kernel.capset(kernel.capget() & sum(1 << number for number in self.numbers))


def cell_plan() -> tuple[Operation, ...]:
    """A program of the host: its mounts end with it, and it sees no process but its own."""
    return (DetachMountTree(), MountProc("/proc"))


def container_plan(container: Container) -> tuple[Operation, ...]:
    """Everything below the root is made after it was entered: no link in an image leads out of it then."""
    return (
        DetachMountTree(),
        LeaveSessionKeyring(),
        SetHostname(container.hostname),
        *(() if container.network else (RaiseLoopback(),)),
        BindRoot(container.root),
        EnterRoot(container.root),
        *(MakeMountPoint(path) for path in ("/proc", "/sys", "/dev", "/run", "/tmp")),
        MountTmpfs("/tmp", SCRATCH_BYTES, SCRATCH_INODES),
        ChangeMode("/tmp", 0o1777),
        MountTmpfs("/run", SCRATCH_BYTES, SCRATCH_INODES),
        MakeDirectory("/run/lock", 0o1777),
        MountTmpfs("/dev", 1 << 20, 1000),
        *(MakeDevice(f"/dev/{name}", major, minor) for name, major, minor in DEVICES),
        MakeSymlink("/dev/fd", "/proc/self/fd"),
        *(MakeSymlink(f"/dev/{name}", f"/proc/self/fd/{fd}") for fd, name in enumerate(("stdin", "stdout", "stderr"))),
        MakeDirectory("/dev/pts"),
        MountDevpts("/dev/pts"),
        MakeSymlink("/dev/ptmx", "pts/ptmx"),
        MakeDirectory("/dev/shm"),
        MountTmpfs("/dev/shm", SCRATCH_BYTES, SCRATCH_INODES),
        ChangeMode("/dev/shm", 0o1777),
        MountProc("/proc"),
        *(Mask(f"/proc/{name}", "/dev/null") for name in MASKED),
        *(BindReadonly(f"/proc/{name}", f"/proc/{name}") for name in READONLY),
        MountSysfs("/sys"),
        MakeDirectory(_OWN, 0o700),
        WriteFile(SCRIPT, container.script),
        ChangeMode(SCRIPT, 0o700),
    )


def privileges_plan(system_calls: str) -> tuple[Operation, ...]:
    """The same system calls as every container: no new user namespace, where root could do all of this again."""
    return (
        ForbidCoreDumps(),
        KeepCapabilities(tuple(CAPABILITIES.values())),
        ForbidNewPrivileges(),
        LoadFilter(bytes.fromhex(system_calls)),
    )


class Overlaid:
    """Files put over those of the image, or where it has none; `remove` leaves no trace of the latter.

    Where not even the directory exists (an image that is no Debian has no use for policy-rc.d) nothing is put.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self.targets: list[tuple[str, bool]] = []
        for number, (path, text) in enumerate(files.items()):
            target = os.path.realpath(path)  # often a link into /run
            if target.startswith("/run/"):
                Path(target).parent.mkdir(parents=True, exist_ok=True)
            if Path(target).parent.is_dir() and not Path(target).is_dir():
                self._put(f"{_OWN}/{number}", target, text)

    def _put(self, source: str, target: str, text: str) -> None:
        WriteFile(source, text).execute()
        ChangeMode(source, 0o755 if text.startswith("#!") else 0o644).execute()
        was_there = Path(target).exists()
        Path(target).touch()
        kernel.mount(source, target, "", kernel.MS_BIND)
        self.targets.append((target, was_there))

    def remove(self) -> None:
        for target, was_there in self.targets:
            kernel.umount2(target, kernel.MNT_DETACH)
            if not was_there and Path(target).is_file() and Path(target).stat().st_size == 0:
                Path(target).unlink()


def main() -> NoReturn:
    control = socket.socket(fileno=int(sys.argv[1]))
    with open(int(sys.argv[2]), "rb") as file:
        order = Order.from_bytes(file.read())
    for word in (sys.argv[1], *sys.argv[3:]):
        os.set_inheritable(int(word), False)
    reset_signals()
    os.umask(0o022)
    flags = os.CLONE_NEWNS | os.CLONE_NEWPID
    if order.container is not None:
        flags |= os.CLONE_NEWUTS | os.CLONE_NEWIPC | (0 if order.container.network else os.CLONE_NEWNET)
    try:
        os.unshare(flags)
        alive, ours = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            _be_init(control, order, alive)
        _watch(control, pid)
        if order.groups and _is_alone(control):
            _remove(order.groups)
    except Exception as error:  # noqa: BLE001 - the border of a process: whatever it was is told
        _tell(control, {"failed": str(error), "step": "unshare, fork"})
    finally:
        os._exit(0)


def _watch(control: socket.socket, pid: int) -> None:
    """Ends when nothing of the inside is left: a pid namespace's init is not reaped before all others in it are gone."""
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(control, select.POLLIN)
    if all(fd != pidfd for fd, _ in poll.poll()):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _is_alone(control: socket.socket) -> bool:
    """The builder is dead, or waits only for us; else it looks into the group yet, and removes it."""
    try:
        return not control.recv(1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def _remove(groups: tuple[str, ...]) -> None:
    """They are busy for a moment after their last process was reaped; what they lie in goes with the last of them."""
    deadline = time.monotonic() + GROUP_S
    for group in groups:
        while time.monotonic() < deadline and not _is_removed(group):
            time.sleep(0.005)
        _is_removed(os.path.dirname(group))  # noqa: PTH120


def _is_removed(directory: str) -> bool:
    try:
        os.rmdir(directory)  # noqa: PTH106
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _be_init(control: socket.socket, order: Order, alive: int) -> NoReturn:
    step = "prctl"
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if select.select([alive], [], [], 0)[0]:
            os._exit(1)  # the outer process died before we asked to die with it
        for entrance in order.entrances:
            step = f"enter {entrance}"
            EnterGroup(entrance).execute()
        sys.meta_path.clear()  # no module is imported from among a root's files, which are somebody else's
        plan = cell_plan() if order.container is None else container_plan(order.container)
        for operation in (*plan, ChangeDirectory(order.workdir)):
            step = operation.describe()
            operation.execute()
        step = "files"
        overlaid = Overlaid(order.container.files if order.container else {})
        step = "fork"
        program = os.fork()
        if program == 0:
            _be_program(control, order)
        status = _reap_until_end_of(program)
        step = "remove files"
        overlaid.remove()
        _tell(control, {"status": status})
    except Exception as error:  # noqa: BLE001
        _tell(control, {"failed": str(error), "step": step})
    finally:
        os._exit(0)


def _be_program(control: socket.socket, order: Order) -> NoReturn:
    try:
        os.setsid()
        if order.container is not None:
            for operation in privileges_plan(order.system_calls):
                operation.execute()
        os.execve(order.command[0], order.command, dict(order.env))
    except OSError as error:
        _tell(control, {"failed": f"{order.command[0]}: {error}", "step": "exec"})
    finally:
        os._exit(127)


def _reap_until_end_of(program: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == program:
            return status


def _tell(control: socket.socket, message: dict[str, object]) -> None:
    """The first message counts. Nobody may listen any more: then nobody wants to know."""
    try:
        control.send(json.dumps(message).encode())
    except OSError:
        return


if __name__ == "__main__":
    main()
