"""The kernel operations of which a container is made: each can say what it does, and do it.

plan.py puts them in order, blank.py executes them; nothing here decides. Standard library only.
"""

import errno
import fcntl
import os
import resource
import socket
import stat
import termios
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from containerlib import kernel


class Operation(ABC):
    def describe(self) -> str:
        return repr(self)

    @abstractmethod
    def execute(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EnterGroup(Operation):
    """`path`: one of cgroups.Group.entrances."""

    path: str

    def execute(self) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")
        os.close(fd)


@dataclass(frozen=True, slots=True)
class DetachMountTree(Operation):
    """No mount made here shows on the host; what the host unmounts vanishes here too, so that nothing is pinned."""

    def execute(self) -> None:
        kernel.mount("none", "/", "", kernel.MS_SLAVE | kernel.MS_REC)


@dataclass(frozen=True, slots=True)
class MountTmpfs(Operation):
    path: str
    size_bytes: int
    inodes: int
    devices: bool = True  # work in it

    def execute(self) -> None:
        # Without an explicit mode a tmpfs is 1777: anybody could replace what lies at its top.
        options = f"mode=755,size={self.size_bytes},nr_inodes={self.inodes}"
        flags = kernel.MS_NOSUID | (0 if self.devices else kernel.MS_NODEV)
        kernel.mount("tmpfs", self.path, "tmpfs", flags, options)


@dataclass(frozen=True, slots=True)
class MakeDirectory(Operation):
    path: str
    mode: int = 0o755
    owner: int = 0

    def execute(self) -> None:
        Path(self.path).mkdir(parents=True, exist_ok=True)
        os.chown(self.path, self.owner, self.owner)
        os.chmod(self.path, self.mode)  # noqa: PTH101 - mkdir's own mode is cut by the umask


@dataclass(frozen=True, slots=True)
class MakeSymlink(Operation):
    path: str
    target: str

    def execute(self) -> None:
        Path(self.path).symlink_to(self.target)


@dataclass(frozen=True, slots=True)
class MakeDevice(Operation):
    path: str
    major: int
    minor: int

    def execute(self) -> None:
        os.mknod(self.path, 0o666 | stat.S_IFCHR, os.makedev(self.major, self.minor))
        os.chmod(self.path, 0o666)  # noqa: PTH101


@dataclass(frozen=True, slots=True)
class BindReadonly(Operation):
    source: str
    target: str

    def execute(self) -> None:
        kernel.mount(self.source, self.target, "", kernel.MS_BIND | kernel.MS_REC)
        # The first call ignores every flag but the bind itself; a second one changes this copy only.
        flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount("none", self.target, "", flags)


@dataclass(frozen=True, slots=True)
class Bind(Operation):
    """With the flags of the mount that `source` lies on."""

    source: str
    target: str

    def execute(self) -> None:
        kernel.mount(self.source, self.target, "", kernel.MS_BIND)


@dataclass(frozen=True, slots=True)
class SealDevices(Operation):
    """A mount of devices: they can be written to, but none can be added, and nobody's last look at one is noted."""

    path: str

    def execute(self) -> None:
        flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NOEXEC
        kernel.mount("none", self.path, "", flags)


@dataclass(frozen=True, slots=True)
class MountProc(Operation):
    path: str

    def execute(self) -> None:
        kernel.mount("proc", self.path, "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


@dataclass(frozen=True, slots=True)
class MountSysfs(Operation):
    path: str

    def execute(self) -> None:
        flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC | kernel.MS_RDONLY
        kernel.mount("sysfs", self.path, "sysfs", flags)


@dataclass(frozen=True, slots=True)
class Mask(Operation):
    """Hides a file behind an empty device, a directory behind `empty`, read-only; absent paths need no mask. Without `empty` it is
    a tmpfs, which is a lot: for 64 file systems more, every memory control group of the host grows by 1 KB."""

    path: str
    null: str
    empty: str = ""

    def execute(self) -> None:
        if Path(self.path).is_dir() and self.empty:
            BindReadonly(self.empty, self.path).execute()
        elif Path(self.path).is_dir():
            kernel.mount("tmpfs", self.path, "tmpfs", kernel.MS_RDONLY | kernel.MS_NOSUID, "size=0,mode=555")
        elif Path(self.path).exists():
            kernel.mount(self.null, self.path, "", kernel.MS_BIND)


@dataclass(frozen=True, slots=True)
class SetSysctl(Operation):
    """In the network namespace of whoever opens the file."""

    path: str
    value: str
    required: bool = True  # False: a kernel built without it needs no setting

    def execute(self) -> None:
        if self.required or Path(self.path).exists():
            Path(self.path).write_text(self.value)


@dataclass(frozen=True, slots=True)
class EnterRoot(Operation):
    """pivot_root onto itself stacks the old root on the new one, so no directory for it is needed."""

    path: str

    def execute(self) -> None:
        os.chdir(self.path)
        kernel.pivot_root(".", ".")
        kernel.umount2(".", kernel.MNT_DETACH)
        os.chdir("/")


@dataclass(frozen=True, slots=True)
class SetHostname(Operation):
    name: str

    def execute(self) -> None:
        socket.sethostname(self.name)


@dataclass(frozen=True, slots=True)
class WriteFile(Operation):
    path: str
    text: str

    def execute(self) -> None:
        # Several of these lie on the way of a request: without a file object each takes a third of the time.
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        os.write(fd, self.text.encode())
        os.close(fd)


@dataclass(frozen=True, slots=True)
class AttachMount(Operation):
    """Puts a detached mount, made outside and received as a descriptor, at `target`."""

    fd: int
    target: str

    def execute(self) -> None:
        if stat.S_ISDIR(os.fstat(self.fd).st_mode):
            _make_directories(self.target)
        else:
            _make_directories(os.path.dirname(self.target))  # noqa: PTH120 - on the way of a request
            os.close(os.open(self.target, os.O_CREAT | os.O_CLOEXEC, 0o644))
        kernel.move_mount(self.fd, self.target)
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class AttachShared(Operation):
    """Puts a mount of all containers (shared.py) at a directory that is there."""

    fd: int
    target: str

    def describe(self) -> str:
        return f"AttachShared(target={self.target!r})"

    def execute(self) -> None:
        kernel.move_mount(self.fd, self.target)
        os.close(self.fd)


def _make_directories(path: str) -> None:
    """Most mounts lie one level below what is there: that is tried first."""
    try:
        os.mkdir(path)  # noqa: PTH102 - on the way of a request
    except FileExistsError:
        pass
    except FileNotFoundError:
        os.makedirs(path, exist_ok=True)  # noqa: PTH103


@dataclass(frozen=True, slots=True)
class PauseAtGate(Operation):
    """Until whoever made this says that it may go on; what is to be done first happens in its namespaces meanwhile."""

    fd: int

    def execute(self) -> None:
        os.write(self.fd, b"gate")
        if os.read(self.fd, 16) != b"go":
            raise ConnectionAbortedError("nobody opened the gate")


@dataclass(frozen=True, slots=True)
class TakeTerminal(Operation):
    """As standard input, output and error, and as the controlling terminal of this session."""

    fd: int

    def execute(self) -> None:
        for number in range(3):
            os.dup2(self.fd, number)
        os.close(self.fd)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@dataclass(frozen=True, slots=True)
class OpenStandard(Operation):
    """Standard input, output and error, by names in this root. `outputs` are FIFOs: held O_RDWR, they outlive their readers."""

    input: str
    outputs: tuple[str, str]

    def execute(self) -> None:
        for number, path in enumerate((self.input, *self.outputs)):
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
            os.dup2(fd, number)
            if fd != number:
                os.close(fd)


@dataclass(frozen=True, slots=True)
class GiveAway(Operation):
    """Hands open files (the log FIFOs) to the program's user, who may open them again through /dev/stdout."""

    fds: tuple[int, ...]
    owner: int

    def execute(self) -> None:
        for fd in self.fds:
            os.fchown(fd, self.owner, self.owner)


@dataclass(frozen=True, slots=True)
class ForbidCoreDumps(Operation):
    def execute(self) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@dataclass(frozen=True, slots=True)
class LimitResource(Operation):
    """RLIMIT_*: never above what this process was given, which whoever started the launcher decided."""

    number: int
    soft: int
    hard: int

    def execute(self) -> None:
        given = resource.getrlimit(self.number)[1]
        hard = self.hard if given == resource.RLIM_INFINITY else min(self.hard, given)
        resource.setrlimit(self.number, (min(self.soft, hard), hard))


@dataclass(frozen=True, slots=True)
class LeaveSessionKeyring(Operation):
    """Keys of whoever started the launcher are no business of its containers."""

    def execute(self) -> None:
        try:
            kernel.join_session_keyring()
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise


@dataclass(frozen=True, slots=True)
class EmptyBoundingSet(Operation):
    kept: int = 0  # a mask

    def execute(self) -> None:
        kernel.empty_bounding_set(self.kept)


@dataclass(frozen=True, slots=True)
class EnterCgroupNamespace(Operation):
    """The group that this process is in becomes the root of what it sees."""

    def execute(self) -> None:
        os.unshare(os.CLONE_NEWCGROUP)


@dataclass(frozen=True, slots=True)
class BecomeUser(Operation):
    """For good, and without any capability but those of a mask, over exec, too: outside of a user namespace's own root the kernel
    clears none by itself until then."""

    uid: int
    group: int | None = None  # the user's own
    groups: tuple[int, ...] = ()
    capabilities: int = 0

    def execute(self) -> None:
        gid = self.uid if self.group is None else self.group
        os.setgroups(self.groups)
        os.setresgid(gid, gid, gid)
        if self.capabilities:
            kernel.keep_capabilities()
        os.setresuid(self.uid, self.uid, self.uid)
        # Executed by root a program has what is permitted, and loses it with root; by others it has what is ambient.
        ambient = self.capabilities if self.uid else 0
        kernel.capset(self.capabilities, ambient)
        if ambient:
            kernel.raise_ambient(ambient)


@dataclass(frozen=True, slots=True)
class ForbidNewPrivileges(Operation):
    def execute(self) -> None:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


@dataclass(frozen=True, slots=True)
class ConfineOnExec(Operation):
    """By an AppArmor profile, from the next exec on, of what this process forks, too."""

    profile: str

    def execute(self) -> None:
        fd = os.open("/proc/self/attr/apparmor/exec", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, f"exec {self.profile}".encode())
        except FileNotFoundError:
            raise FileNotFoundError(f"AppArmor profile {self.profile!r} is none that the kernel has loaded") from None
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class LoadFilter(Operation):
    """Of system calls; seccomp.py says which."""

    program: bytes

    def describe(self) -> str:
        return f"LoadFilter({len(self.program) // 8} instructions)"

    def execute(self) -> None:
        kernel.set_seccomp_filter(self.program)


@dataclass(frozen=True, slots=True)
class ChangeDirectory(Operation):
    path: str

    def execute(self) -> None:
        os.chdir(self.path)
