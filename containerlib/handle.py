"""A container of this host as whoever started it holds it: by descriptors, never by a number that may be somebody else's by now."""

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from containerlib import process
from containerlib.cgroups import Group
from containerlib.firewall import USUAL, NetworkPolicy
from containerlib.network import Wire


class StartFailed(Exception):
    """The container could not be made into what was asked; the text is for the site's owner."""


class BlankLost(StartFailed):
    """The blank died before it could become anybody: no fault of what was to be started, and another one may do."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a container runs, where that is neither PID 1 nor PID 1's to answer for."""

    pidfd: int

    def ask_to_stop(self, number: signal.Signals = signal.SIGTERM) -> bool:
        """The signal to its process group. False where nobody would hear it."""
        pid = process.pid_of(self.pidfd)
        found = process.dispositions(pid) if pid > 0 else None
        if found is None or found.ignores(number) or process.has_ended(self.pidfd):
            return False
        with suppress(ProcessLookupError):
            os.killpg(pid, number)
        return True


@dataclass(frozen=True, slots=True)
class Kind:
    """Of a blank. `dumpable`: the first of its ids on the host, for one whose container CRIU can dump. `restores`: tells one that
    restores an image what to do, by its socket, its directory and its address (see checkpoint/)."""

    dumpable: int | None = None
    restores: Callable[[socket.socket, Path, str], None] | None = None

    def request(self) -> dict[str, object]:
        """What the launcher is told of it."""
        if self.dumpable is not None:
            return {"dumpable": self.dumpable}
        return {} if self.restores is None else {"restores": True}


USUAL_KIND = Kind()


@dataclass(slots=True)
class Container:
    """A slot and its PID 1: a blank first, then a site. `logs` are the readers of its stdout and stderr."""

    slot: int
    pid: int
    pidfd: int
    group: Group
    wire: Wire
    logs: tuple[int, int]
    etc_image: str
    start_time: int
    control: socket.socket | None = None
    program: Program | None = None
    policy: NetworkPolicy = USUAL
    own_filter: bool = False  # of system calls
    kind: Kind = USUAL_KIND

    @property
    def address(self) -> str:
        return self.wire.address

    def kill(self) -> None:
        """PID 1, and with it everything in its namespace. A frozen one does not run again before it dies, but with cgroup v1 it
        dies only when it is thawed."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self._thaw()

    def ask_to_stop(self, *, init: bool, number: signal.Signals = signal.SIGTERM) -> None:
        """The signal, or SIGKILL at once where nobody would hear it. A frozen one is thawed, with that before it."""
        self._signal_stop(init=init, number=number)
        self._thaw()

    def _thaw(self) -> None:
        with suppress(OSError):  # with cgroup v2 it dies all the same
            self.group.thaw()

    def _signal_stop(self, *, init: bool, number: signal.Signals) -> None:
        if self.program is not None:
            if not self.program.ask_to_stop(number):
                self.kill()
            return
        pointless = process.stop_is_pointless(self.pid, init=init, number=number)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL if pointless else number)

    def was_killed(self) -> bool:
        """Of a frozen one: it will not live on when it is thawed."""
        pids = [self.pid] if self.program is None else [self.pid, process.pid_of(self.program.pidfd)]
        return any(process.was_killed(pid) for pid in pids)

    def close(self) -> None:
        for fd in (self.pidfd, *self.logs):
            os.close(fd)
        if self.program:
            os.close(self.program.pidfd)
        if self.control:
            self.control.close()
