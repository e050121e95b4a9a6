"""Become an unprivileged user and execute: python -m dispatcher.quickstart.confined USER PATH... -- COMMAND...

A checkout or an interpreter often lies in a home directory that nobody else may enter (/root is 0700). The command gets a mount
namespace of its own in which such a directory is empty but for what it needs: the PATHs and the interpreter. The home stays
closed to everybody else, and what else is in it is out of the command's sight altogether.
"""

import ctypes
import os
import pwd
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

PR_SET_NO_NEW_PRIVS = 38
MS_BIND, MS_REC, MS_SLAVE, MS_NOSUID, MS_NODEV = 0x1000, 0x4000, 0x80000, 0x2, 0x4

_libc = ctypes.CDLL(None, use_errno=True)


def covers(paths: Sequence[Path], is_open: Callable[[Path], bool]) -> dict[Path, list[Path]]:
    """The topmost directories on the way to `paths` that are closed, each with the paths behind it."""
    found: dict[Path, list[Path]] = {}
    for path in paths:
        for directory in reversed(path.parents):
            if not is_open(directory):
                found.setdefault(directory, []).append(path)
                break
    return found


def may_search(directory: Path, user: pwd.struct_passwd) -> bool:
    status = directory.stat()
    if status.st_uid == user.pw_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == user.pw_gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def mount(source: str, target: Path, kind: str, flags: int, data: str = "") -> None:
    if _libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, data.encode()) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))


def uncover(hidden: dict[Path, list[Path]]) -> None:
    os.unshare(os.CLONE_NEWNS)
    # Slave, not private: what the host unmounts later must go here as well.
    mount("none", Path("/"), "", MS_REC | MS_SLAVE)
    for directory, paths in hidden.items():
        held = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in paths]
        mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64k")
        for path, descriptor in held:
            path.mkdir(parents=True, exist_ok=True)
            mount(f"/proc/self/fd/{descriptor}", path, "", MS_BIND | MS_REC)


def drop_to(user: pwd.struct_passwd) -> None:
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "prctl(PR_SET_NO_NEW_PRIVS)")


def main(arguments: Sequence[str]) -> None:
    border = arguments.index("--")
    user = pwd.getpwnam(arguments[0])
    paths = [Path(path).resolve() for path in (*arguments[1:border], sys.base_prefix)]
    hidden = covers(paths, lambda directory: may_search(directory, user))
    if hidden:
        uncover(hidden)
    drop_to(user)
    os.execvp(arguments[border + 1], list(arguments[border + 1 :]))


if __name__ == "__main__":
    main(sys.argv[1:])
