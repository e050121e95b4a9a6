"""Thin syscalls under their kernel names, for what Python does not offer. Standard library only: the launcher's blanks import it.

Each wrapper raises OSError with the call and its main argument in `filename`, so that a log line says which step failed.
"""

import ctypes
import errno
import fcntl
import functools
import os
import struct
from pathlib import Path

# linux/mount.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MOUNT_ATTR_IDMAP = 0x100000
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

# linux/openat2.h
RESOLVE_NO_SYMLINKS = 4

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

# linux/seccomp.h
_SECCOMP_MODE_FILTER = 2

# linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522

# The generic syscall table: the same numbers on every architecture since Linux 5.1.
_NR_OPEN_TREE = 428
_NR_MOVE_MOUNT = 429
_NR_FSOPEN = 430
_NR_FSCONFIG = 431
_NR_FSMOUNT = 432
_NR_OPENAT2 = 437
_NR_MOUNT_SETATTR = 442
# Older than that table, so one number for each architecture.
_NR_KEYCTL = {"x86_64": 250, "aarch64": 219}
_KEYCTL_JOIN_SESSION_KEYRING = 1

_F_SETPIPE_SZ = 1031

# What a start cannot do without, and since when kernels have it.
_SINCE = {
    "open_tree": "5.2",
    "move_mount": "5.2",
    "fsopen": "5.2",
    "fsconfig": "5.2",
    "fsmount": "5.2",
    "openat2": "5.6",
    "mount_setattr": "5.12",
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
# Declared: a call takes a third of the time that it takes with arguments wrapped by hand.
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


def _check(result: int, call: str, argument: object = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        reason = os.strerror(number)
        if number == errno.ENOSYS and call in _SINCE:
            reason = (
                f"kernel {os.uname().release} has no {call}, or forbids it; Linux {_SINCE[call]} or later is needed"
            )
        raise OSError(number, reason, f"{call} {argument}".rstrip())
    return result


def mount(source: str, target: str, filesystem: str, flags: int, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), os.fsencode(target), filesystem.encode(), ctypes.c_ulong(flags), data.encode()
    )
    _check(result, "mount", target)


def umount2(target: str, flags: int) -> None:
    _check(_libc.umount2(os.fsencode(target), flags), "umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    _check(_libc.pivot_root(os.fsencode(new_root), os.fsencode(put_old)), "pivot_root", new_root)


def open_tree(path: str, flags: int) -> int:
    """A descriptor of a mount; with OPEN_TREE_CLONE of a detached copy that move_mount attaches anywhere (5.2)."""
    number = _libc.syscall(_NR_OPEN_TREE, AT_FDCWD, os.fsencode(path), ctypes.c_uint(flags))
    return _check(number, "open_tree", path)


def openat2(path: str, flags: int, resolve: int) -> int:
    """RESOLVE_* bound the walk (5.6): it fails with ELOOP where it would follow a link that they forbid."""
    how = struct.pack("=QQQ", flags, 0, resolve)
    number = _libc.syscall(_NR_OPENAT2, AT_FDCWD, os.fsencode(path), how, ctypes.c_size_t(len(how)))
    return _check(number, "openat2", path)


def move_mount(mount_fd: int, target: str) -> None:
    result = _libc.syscall(
        _NR_MOVE_MOUNT, mount_fd, b"", AT_FDCWD, os.fsencode(target), ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH)
    )
    _check(result, "move_mount", target)


def mount_setattr(mount_fd: int, attributes: int, *, recursive: bool = True, user_namespace: int = 0) -> None:
    """Sets MOUNT_ATTR_* on the mount behind a descriptor (5.12). With MOUNT_ATTR_IDMAP its ids are those that this user namespace
    maps them to, which only a detached mount of some filesystems takes."""
    request = struct.pack("=QQQQ", attributes, 0, 0, user_namespace)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    result = _libc.syscall(
        _NR_MOUNT_SETATTR, mount_fd, b"", ctypes.c_uint(flags), request, ctypes.c_size_t(len(request))
    )
    _check(result, "mount_setattr", f"{attributes:#x}")


def fsopen(filesystem: str) -> int:
    """A filesystem to be (5.2): fsconfig tells it its parameters, FSCONFIG_CMD_CREATE makes it, fsmount gives a detached mount."""
    return _check(_libc.syscall(_NR_FSOPEN, filesystem.encode(), FSOPEN_CLOEXEC), "fsopen", filesystem)


def fsconfig(fs: int, command: int, key: str = "", value: str | int = "") -> None:
    """`value`: a string, or a descriptor with FSCONFIG_SET_FD."""
    word = value.encode() if isinstance(value, str) and value else None
    number = value if isinstance(value, int) else 0
    result = _libc.syscall(_NR_FSCONFIG, fs, ctypes.c_uint(command), key.encode() or None, word, number)
    _check(result, "fsconfig", f"{key}={value}".strip("="))


def fsmount(fs: int, attributes: int = 0) -> int:
    return _check(_libc.syscall(_NR_FSMOUNT, fs, FSMOUNT_CLOEXEC, ctypes.c_uint(attributes)), "fsmount", fs)


def prctl(option: int, argument: int = 0, second: int = 0) -> int:
    return _check(_libc.prctl(option, argument, second, 0, 0), "prctl", option)


def set_seccomp_filter(program: bytes) -> None:
    """Of this process, for good; needs PR_SET_NO_NEW_PRIVS or CAP_SYS_ADMIN. `program`: an array of struct sock_filter."""
    code = ctypes.create_string_buffer(program, len(program))
    fprog = ctypes.create_string_buffer(struct.pack("=Hxxxxxx Q", len(program) // 8, ctypes.addressof(code)))
    prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(fprog))


def join_session_keyring() -> None:
    """A fresh, anonymous one. Raises OSError (ENOSYS) where the kernel has no keyrings, or its number is not known here."""
    number = _NR_KEYCTL.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "keyctl")
    _check(_libc.syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None), "keyctl", "JOIN_SESSION_KEYRING")


def empty_bounding_set(kept: int = 0) -> None:
    """But for `kept`, a mask. To the kernel's own last capability, whatever its number: a list of names would leave newer ones in.
    There is no call for all of them, and these forty are on the way of a request."""
    drop = _libc.prctl
    for capability in range(last_capability() + 1):
        if not kept >> capability & 1 and drop(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            _check(-1, "prctl PR_CAPBSET_DROP", capability)


def capset(permitted: int, inheritable: int = 0) -> None:
    """Permitted and effective, and inheritable capabilities of this thread, as masks."""
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    inherited = inheritable & 0xFFFFFFFF, inheritable >> 32
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("=6I", low, low, inherited[0], high, high, inherited[1])
    _check(_libc.capset(header, data), "capset", f"{permitted:#x}")


def keep_capabilities() -> None:
    """Over the next change of the user, as permitted ones; exec forgets it."""
    prctl(PR_SET_KEEPCAPS, 1)


def raise_ambient(mask: int) -> None:
    """Kept over exec by a user who is not root; they must be permitted and inheritable."""
    for capability in range(last_capability() + 1):
        if mask >> capability & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def capget() -> int:
    """The permitted capabilities of this thread, as a mask."""
    header, data = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), ctypes.create_string_buffer(24)
    _check(_libc.capget(header, data), "capget")
    words = struct.unpack("=6I", data.raw)
    return int(words[1] | words[4] << 32)


@functools.cache
def last_capability() -> int:
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def syncfs(path: str) -> None:
    """Everything written so far to the file system that holds `path` is on disk; what could not be written raises (5.8)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.syncfs(fd), "syncfs", path)
    finally:
        os.close(fd)


def set_pipe_size(fd: int, size_bytes: int) -> None:
    fcntl.fcntl(fd, _F_SETPIPE_SZ, size_bytes)
