"""The steps of a start, or of a runner's whole life, found where they are taken: whoever is watched halts at the one that it was
told to.

A step is a call of the kernel that changes something, and the function of ours that makes it. They are seen by Python's profiler
in the real code of launcher, blank and agent, so that none is to be listed here, and a new one cannot be forgotten.

What is said lies in a file that all of them map: a blank sees no file of the host, closes every descriptor, and knows nobody by
a number. Standard library only.
"""

import mmap
import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

STEP_BYTES, STEPS_MAX = 160, 2000  # of each list
STEPS_OF_BLANK, STEPS_OF_CHILD = 200, 20  # in the list of all blanks: each process has its own part of it
RECORD, ARMED, HALTED, GO = b"r", b"a", b"h", b"g"
LAUNCHER, BLANK, AGENT, RUNNER = "launcher", "blank", "agent", "runner"
ROLES = (LAUNCHER, BLANK, AGENT, RUNNER)
_HEAD_BYTES = 4096  # state, role of the wanted step, its name
_LIST_BYTES = STEP_BYTES * STEPS_MAX
SIZE = _HEAD_BYTES + _LIST_BYTES * len(ROLES)
HALT_S = 30.0  # nobody came: the test has failed, and this must not stay for ever

OURS = str(Path(__file__).parents[2])
_PARTS = (f"{OURS}/containerlib/", f"{OURS}/dispatcher/compute/")
_KERNEL = f"{OURS}/containerlib/kernel.py"
_MODULES = ("posix", "fcntl", "_socket", "socket", "_io", "_posixsubprocess", "_signal")
_DEPTH = 7  # pathlib, tempfile, pyroute2 between a function of ours and the kernel
# What changes nothing: a death there is a death before the next step.
_HARMLESS = frozenset(
    """
    CMSG_LEN CMSG_SPACE __enter__ __exit__ _accept _exists _isdir _path_exists _path_isdir _path_isfile _path_islink _path_normpath
    _path_splitroot_ex accept access close closerange decode fdopen fileno flush fsencode fspath fstat get_blocking
    get_inheritable getcwd getegid geteuid getgid getpeername getpgid getpid getppid getrandom getsignal getsockname
    getsockopt gettimeout getuid getxattr if_nametoindex inet_aton inet_ntop inet_pton is_dir is_file last_capability
    listdir lseek lstat major makedev minor pread read readable readall readinto readline readlines readlink readv recv
    recv_into recvmsg scandir seek seekable set_blocking set_inheritable setblocking setsockopt settimeout stat sysconf tell
    text_encoding umask urandom writable
    """.split()  # noqa: SIM905
)


class Steps:
    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(fd, SIZE)
        self._map = mmap.mmap(fd, SIZE)
        os.close(fd)

    # ---- whoever walks

    def record(self) -> None:
        self._map[:] = bytes(SIZE)
        self._map[:1] = RECORD

    def arm(self, role: str, name: str) -> None:
        assert len(name) < STEP_BYTES
        self._map[1:_HEAD_BYTES] = f"{role}\n{name}\n".encode().ljust(_HEAD_BYTES - 1, b"\0")
        self._map[:1] = ARMED

    def rest(self) -> None:
        self._map[:1] = b"\0"

    @property
    def halted(self) -> bool:
        return self._map[:1] == HALTED

    def go_on(self) -> None:
        self._map[:1] = GO

    def names(self, role: str) -> list[str]:
        start = _HEAD_BYTES + _LIST_BYTES * ROLES.index(role)
        text = self._map[start : start + _LIST_BYTES]
        each = (text[at : at + STEP_BYTES].rstrip(b"\0").decode() for at in range(0, _LIST_BYTES, STEP_BYTES))
        return list(dict.fromkeys(name for name in each if name))

    def close(self) -> None:
        self._map.close()

    # ---- whoever is watched

    def watch(self, role: str) -> None:
        """This process from now on, threads and forks included."""
        Watched(self._map, role).begin()


class Watched:
    def __init__(self, shared: mmap.mmap, role: str) -> None:
        self._map, self._role = shared, role
        self._pid = os.getpid()
        self._count = self._forks = self._forker = 0
        self._seen: set[str] = set()

    def begin(self) -> None:
        threading.setprofile(self.see)
        sys.setprofile(self.see)

    def see(self, frame: FrameType, event: str, what: Any) -> None:
        state = self._map[:1]
        if state not in (RECORD, ARMED):
            return
        if event == "call" and frame.f_code.co_filename == _KERNEL and not frame.f_code.co_name.startswith("_"):
            call, caller = frame.f_code.co_name, frame.f_back
            if call in _HARMLESS:
                return
        elif event == "c_call" and _is_of_kernel(what):
            call, caller = what.__name__, frame
        else:
            return
        if (ours := _nearest(caller)) is not None:
            self._reached(ours, call, state)

    def _reached(self, ours: str, call: str, state: bytes) -> None:
        name = f"{ours}: {call}"
        if self._role == RUNNER and os.getpid() != self._pid:
            return  # its helpers: they end with it
        if self._role == LAUNCHER and os.getpid() != self._pid:
            self._role = BLANK  # this is its fork
            self._count = self._forks * STEPS_OF_BLANK
        if self._forker and os.getpid() == self._forker:
            self._count += STEPS_OF_CHILD
        self._forker = 0
        if call == "fork":
            self._forks += 1
            self._forker = os.getpid() if self._role == BLANK else 0
        if state == RECORD:
            self._note(name)
            return
        role, wanted, _ = self._map[1:_HEAD_BYTES].split(b"\n", 2)
        if wanted == name.encode() and role == self._role.encode():
            self._map[:1] = HALTED
            self._halt()

    def _note(self, name: str) -> None:
        if name not in self._seen:
            start = _HEAD_BYTES + _LIST_BYTES * ROLES.index(self._role) + STEP_BYTES * self._count
            self._map[start : start + STEP_BYTES] = name[: STEP_BYTES - 1].encode().ljust(STEP_BYTES, b"\0")
            self._seen.add(name)
            self._count += 1

    def _halt(self) -> None:
        deadline = time.monotonic() + HALT_S
        while self._map[:1] == HALTED and time.monotonic() < deadline:
            time.sleep(0.001)


def _is_of_kernel(function: Any) -> bool:
    if function.__name__ in _HARMLESS:
        return False
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None) or getattr(owner, "__name__", None) or type(owner).__module__
    return module in _MODULES


def _nearest(frame: FrameType | None) -> str | None:
    """The function of ours on whose behalf it is."""
    for _ in range(_DEPTH):
        if frame is None:
            return None
        code = frame.f_code
        if code.co_filename.startswith(_PARTS) and code.co_filename != _KERNEL:
            kind = type(frame.f_locals["self"]).__name__ if code.co_name == "execute" else ""
            where = code.co_filename.removeprefix(f"{OURS}/")
            return f"{where} {kind}.{code.co_name}" if kind else f"{where} {code.co_qualname}"
        frame = frame.f_back
    return None
