"""All processes of one peer: those that this bench started and all that came of them, daemons that turned away included.

The bench is a "child subreaper" for the time: an orphan becomes its child, not PID 1's, so nobody escapes being counted and ended.
Somebody in another PID namespace is seen by the number that the host has for it.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
END_S = 5.0  # between SIGTERM and SIGKILL, and once more after it
LOOK_EVERY_S = 0.01

_libc = ctypes.CDLL(None, use_errno=True)


class Family:
    """What was a child of this process before does not belong to it."""

    def __init__(self) -> None:
        self._strangers = frozenset(_children().get(os.getpid(), ()))
        self._started: dict[int, subprocess.Popen[bytes]] = {}

    def start(
        self, command: Sequence[str], log: Path, *, environment: Mapping[str, str] = os.environ
    ) -> subprocess.Popen[bytes]:
        """In a session of its own: Ctrl-C is for this bench, which ends what it started in order."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        self._started[process.pid] = process
        return process

    def pids(self) -> list[int]:
        """Those that are no zombies, the oldest first as far as their numbers tell."""
        children = _children()
        found: list[int] = []
        waiting = [pid for pid in children.get(os.getpid(), ()) if pid not in self._strangers]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            waiting += children.get(pid, ())
        return sorted(found)

    def session(self, leader: int) -> list[int]:
        """The members of a process's session, itself gone or not."""
        return [pid for pid in self.pids() if _session(pid) == leader]

    def kill(self, pids: Sequence[int]) -> None:
        """Returns when they are gone."""
        _signal(pids, signal.SIGKILL)
        self._wait(lambda: set(self.pids()) & set(pids), END_S)

    def end(self) -> None:
        """SIGTERM to the elders, who end their own, and to whoever has become one by that; after a while SIGKILL to whoever is
        left. Raises TimeoutError if that leaves anybody."""
        told: set[int] = set()

        def tell() -> None:
            elders = {pid for pid in _children().get(os.getpid(), ()) if pid not in self._strangers}
            _signal(elders - told, signal.SIGTERM)
            told.update(elders)

        if not self._wait(lambda: set(self.pids()), END_S, tell):
            _signal(self.pids(), signal.SIGKILL)
            if not self._wait(lambda: set(self.pids()), END_S):
                raise TimeoutError(f"processes {self.pids()} do not end")

    def _wait(self, who: Callable[[], set[int]], patience_s: float, tell: Callable[[], None] = lambda: None) -> bool:
        deadline = time.monotonic() + patience_s
        while True:
            tell()
            left = who()
            self._reap()  # after the look: whoever is missing in it is a zombie by now
            if not left:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_EVERY_S)

    def _reap(self) -> None:
        """Those that we started by their own object, which wants the status; orphans that came to us by number."""
        for pid, process in list(self._started.items()):
            if process.poll() is not None:
                self._started.pop(pid, None)  # two threads may be here
        for pid in _zombies(os.getpid()):
            if pid not in self._strangers and pid not in self._started:
                os.waitpid(pid, os.WNOHANG)


@contextmanager
def family() -> Iterator[Family]:
    """Nobody of it is left afterwards."""
    _set_subreaper(True)
    try:
        found = Family()
        try:
            yield found
        finally:
            found.end()
    finally:
        _set_subreaper(False)


def _set_subreaper(is_one: bool) -> None:
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, int(is_one), 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _children() -> dict[int, list[int]]:
    """By parent; without zombies."""
    found: dict[int, list[int]] = defaultdict(list)
    for pid, state, parent, _ in _stats():
        if state != "Z":
            found[parent].append(pid)
    return found


def _zombies(parent: int) -> list[int]:
    return [pid for pid, state, its, _ in _stats() if state == "Z" and its == parent]


def _session(pid: int) -> int:
    return next((session for number, _, _, session in _stats((pid,)) if number == pid), 0)


def _stats(pids: Sequence[int] | None = None) -> Iterator[tuple[int, str, int, int]]:
    """Number, state, parent, session of every process, or of these."""
    numbers = pids if pids is not None else [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    for pid in numbers:
        try:
            text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield parse_stat(text)


def parse_stat(text: str) -> tuple[int, str, int, int]:
    """Pure: number, state, parent and session. The name between them may hold spaces and parentheses."""
    number, rest = text.split(" ", 1)[0], text.rpartition(")")[2].split()
    return int(number), rest[0], int(rest[1]), int(rest[3])


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
