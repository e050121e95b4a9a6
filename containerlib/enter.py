"""A command inside a live container: in its namespaces and cgroups, as its user, without capabilities.

No descriptor of the operator's terminal goes in. A program inside that held one could read what root types next, and one whose
controlling terminal it is could push keys into root's shell (TIOCSTI). So the program gets a pseudo-terminal in a session of its
own, or pipes where not all of 0 and 1 are a terminal, and bytes are carried; the operator's pipes and files go in as they are.
"""

import contextlib
import fcntl
import os
import signal
import sys
import termios
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

from containerlib import kernel, seccomp
from containerlib.idmap import APP_USER, outside
from containerlib.operations import BecomeUser, EmptyBoundingSet, ForbidCoreDumps, ForbidNewPrivileges, LoadFilter
from containerlib.plan import DEFAULT_PATH, RLIMITS
from containerlib.terminal import raw, relay

NAMESPACES = (
    os.CLONE_NEWNS | os.CLONE_NEWPID | os.CLONE_NEWNET | os.CLONE_NEWIPC | os.CLONE_NEWUTS | os.CLONE_NEWCGROUP
)  # fmt: skip
# Blocked before the forks and waited for: a handler that raises could do so inside Python's own hooks after a fork, and be lost.
HANDED_ON = (signal.SIGINT, signal.SIGCHLD)
SHELLS = ("/bin/bash", "/bin/sh")
CANNOT_RUN, NOT_FOUND = 126, 127  # as shells have it


class Ended(ProcessLookupError):
    """The container is not there any more."""


@dataclass(frozen=True, slots=True)
class Door:
    """How to enter: PID 1 of the container as the host numbers it, its cgroup directories, the first of its ids on the host. `user`
    and what follows are its own numbers: those of its program, unless somebody wants to be another one in there."""

    name: str
    pid: int
    cgroups: tuple[str, ...]
    uid: int
    workdir: str
    env: Mapping[str, str]
    user: int = APP_USER
    group: int | None = None  # the user's own
    groups: tuple[int, ...] = ()

    @property
    def owner(self) -> int:
        """As the host numbers its user."""
        return self.uid if self.user == APP_USER else outside(self.uid, self.user)


class Ends(NamedTuple):
    """`standard`: what the program gets as 0, 1 and 2; `inside`: those of them that are ours to close once it has them."""

    standard: list[int]
    inside: list[int]
    pairs: dict[int, int]  # what is carried, source -> sink
    inward: list[int]  # those sinks that lead to the program
    master: int | None = None


def enter(door: Door, command: Sequence[str]) -> int:
    """The command's exit code; 128 and the number of the signal that ended it. A shell if `command` is empty. Raises Ended; only
    root may."""
    with contextlib.ExitStack() as stack:
        pidfd, groups = _hold(door, stack)
        ends = _ends(door.owner, stack)
        sys.stdout.flush()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON)
        child = os.fork()
        if child == 0:
            _child(door, pidfd, groups, ends, command)
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child answers it
        stack.callback(signal.signal, signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for fd in ends.inside:
            os.close(fd)
        watch = os.pidfd_open(child)
        stack.callback(os.close, watch)
        if ends.master is not None:
            stack.enter_context(raw(0, ends.master))
        try:
            relay(ends.pairs, watch, ends.inward)
        finally:
            _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)


def _hold(door: Door, stack: contextlib.ExitStack) -> tuple[int, list[int]]:
    """The container's PID 1 and its cgroups as descriptors: from here on no other process can be meant."""
    gone = Ended(f"{door.name} ended meanwhile")
    try:
        pidfd = os.pidfd_open(door.pid)
        stack.callback(os.close, pidfd)
        groups = []
        for directory in door.cgroups:
            # Opened here: inside there is no path to them, and permission is that of the opener.
            groups.append(os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
            stack.callback(os.close, groups[-1])
            if str(door.pid) not in Path(directory, "cgroup.procs").read_text().split():
                raise gone  # its number was given to another process before the pidfd was opened
    except (ProcessLookupError, FileNotFoundError) as error:
        raise gone from error
    return pidfd, groups


def _ends(uid: int, stack: contextlib.ExitStack) -> Ends:
    if os.isatty(0) and os.isatty(1):
        master, slave = os.openpty()
        stack.callback(os.close, master)
        os.fchown(slave, uid, uid)  # so that /dev/stderr can be opened again by name
        return Ends([slave] * 3, [slave], {0: master, master: 1}, [master], master)
    ends = Ends([], [], {}, [])
    for fd in range(3):
        if not os.isatty(fd):
            ends.standard.append(fd)
            continue
        reading, writing = os.pipe()
        theirs = reading if fd == 0 else writing
        os.fchown(theirs, uid, uid)
        ends.standard.append(theirs)
        ends.inside.append(theirs)
        if fd == 0:
            ends.pairs[0] = writing
            ends.inward.append(writing)
        else:
            ends.pairs[reading] = fd
            stack.callback(os.close, reading)
    return ends


def _child(door: Door, pidfd: int, groups: list[int], ends: Ends, command: Sequence[str]) -> NoReturn:
    """Never returns. Between us and the program, because a pid namespace is entered by the next child only."""
    code = CANNOT_RUN
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        mapped = not Path(f"/proc/{door.pid}/ns/user").samefile("/proc/self/ns/user")
        os.setns(pidfd, NAMESPACES | os.CLONE_NEWUSER if mapped else NAMESPACES)
        program = os.fork()
        if program == 0:
            user = BecomeUser(door.user, door.group, door.groups) if mapped else BecomeUser(door.uid)
            _program(door, user, groups, ends, command)
        for fd in ends.inside:
            os.close(fd)
        code = os.waitstatus_to_exitcode(_wait(program))
        code = code if code >= 0 else 128 - code
    except OSError as error:
        os.write(2, f"fastcontainer: {door.name} cannot be entered: {error}\n".encode())
    except BaseException:  # noqa: BLE001 - the border of a process
        traceback.print_exc()
    finally:
        os._exit(code)


def _wait(program: int) -> int:
    """Its wait status. Ctrl-C is handed on to all of its group, which is not the terminal's; a second one kills."""
    number = signal.SIGINT
    while True:
        if signal.sigwait(HANDED_ON) == signal.SIGINT:
            os.killpg(program, number)
            number = signal.SIGKILL
        ended, status = os.waitpid(program, os.WNOHANG)
        if ended:
            return status


def _program(door: Door, user: BecomeUser, groups: list[int], ends: Ends, command: Sequence[str]) -> NoReturn:
    code = CANNOT_RUN
    try:
        for group in groups:
            os.write(group, b"0")
        _take(ends)
        filter = LoadFilter(seccomp.compile_filter())
        privileges = EmptyBoundingSet(), user, ForbidNewPrivileges(), filter
        for operation in (ForbidCoreDumps(), *RLIMITS, *privileges):
            operation.execute()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
        _execute(door, command)
    except OSError as error:
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
        os.write(2, f"fastcontainer: {command[0] if command else 'a shell'}: {error.strerror}\n".encode())
    except BaseException:  # noqa: BLE001 - the border of a process
        traceback.print_exc()
    finally:
        os._exit(code)


def _take(ends: Ends) -> None:
    os.setsid()
    for fd, end in enumerate(ends.standard):
        if fd != end:
            os.dup2(end, fd)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # above all the descriptors of the host's cgroups
    if ends.master is not None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _execute(door: Door, command: Sequence[str]) -> NoReturn:
    with contextlib.suppress(FileNotFoundError, PermissionError):
        os.chdir(door.workdir)
    env = {"PATH": DEFAULT_PATH, "HOME": "/tmp", "LANG": "C.UTF-8", **door.env}
    if term := os.environ.get("TERM"):
        env["TERM"] = term
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # what Python ignores would stay ignored
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    words = list(command) or [next(filter(os.path.exists, SHELLS), SHELLS[-1])]
    os.execvpe(words[0], words, env)
