"""stdout and stderr of each life, from its FIFOs to a file of its own, bounded.

LOG_DIR/lives/APP/ID.GENERATION.log, one line `2026-11-23T05:49:25.123456Z out text` each; past LIFE_BYTES_MAX the file becomes
`.1` and so on, FILES_MAX of them. Of each app the newest LIVES_KEPT lives are kept. If this reader dies, the
lines wait in the FIFO. They wait there, too, and in the end the program with them, when it writes more than RATE_BYTES_PER_S
for long: a tenant's output must not take the agent's time from everybody else.
"""

import asyncio
import logging
import os
import re
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path

LIFE_BYTES_MAX = 4 << 20
FILES_MAX = 3
LIVES_KEPT = 20
LINE_BYTES_MAX = 16 << 10  # a longer line is cut into several
TAIL_LINES = 5
RATE_BYTES_PER_S, BURST_S = 2 << 20, 1.0  # of what is written, stamps included: empty lines grow thirtyfold
DRAIN_BYTES_MAX = 2 << 20  # written at the end. Somebody who was handed the FIFO may go on for ever
_READ_BYTES = 1 << 14
_LIFE_FILE = re.compile(r"(\d+)\.(\d+)\.log(?:\.\d+)?")
_log = logging.getLogger(__name__)


class LifeLog:
    """Reads a life's two FIFOs until their writers are gone."""

    def __init__(self, directory: Path, name: str, fds: tuple[int, int], stamp: Callable[[], str]) -> None:
        self._path = directory / f"{name}.log"
        self._streams = {fds[0]: b"out", fds[1]: b"err"}
        self._partial = dict.fromkeys(fds, b"")
        self._stamp = stamp
        self._written_bytes = 0
        self._busy_until = 0.0  # by the loop's clock, if what was written had been written at RATE_BYTES_PER_S
        self._resuming: dict[int, asyncio.TimerHandle] = {}
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._file).st_size

    def follow(self) -> None:
        for fd in self._streams:
            self._listen(fd)

    def _listen(self, fd: int) -> None:
        self._resuming.pop(fd, None)
        asyncio.get_running_loop().add_reader(fd, self._readable, fd)

    def _readable(self, fd: int) -> None:
        self._read(fd)
        loop = asyncio.get_running_loop()
        ahead_s = self._busy_until - loop.time()
        if ahead_s > BURST_S and loop.remove_reader(fd):
            self._resuming[fd] = loop.call_later(ahead_s - BURST_S / 2, self._listen, fd)

    def close(self) -> None:
        """Takes what is still in the FIFOs along. The FIFOs' descriptors stay their owner's."""
        for fd in self._streams:
            asyncio.get_running_loop().remove_reader(fd)
            if timer := self._resuming.pop(fd, None):
                timer.cancel()
            end = self._written_bytes + DRAIN_BYTES_MAX
            while self._written_bytes < end and self._read(fd):
                pass
            if self._partial[fd]:
                self._write(fd, [self._partial[fd]])
        os.close(self._file)

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:  # no writer is left: the end would be reported again and again
            asyncio.get_running_loop().remove_reader(fd)
            return False
        *lines, rest = (self._partial[fd] + data).split(b"\n")
        while len(rest) > LINE_BYTES_MAX:
            lines.append(rest[:LINE_BYTES_MAX])
            rest = rest[LINE_BYTES_MAX:]
        self._partial[fd] = rest
        if lines:
            self._write(fd, lines)
        return True

    def _write(self, fd: int, lines: list[bytes]) -> None:
        head = self._stamp().encode() + b" " + self._streams[fd] + b" "
        data = b"".join(head + piece + b"\n" for line in lines for piece in _pieces(line))
        self.tail.extend(line.decode(errors="replace")[:300] for line in lines[-TAIL_LINES:])
        self._written_bytes += len(data)
        self._busy_until = max(self._busy_until, asyncio.get_running_loop().time()) + len(data) / RATE_BYTES_PER_S
        try:
            if self._size + len(data) > LIFE_BYTES_MAX:
                self._rotate()
            self._size += os.write(self._file, data)
        except OSError as error:  # a full disk must not take the agent down
            _log.warning("log %s: %s", self._path, error)

    def _rotate(self) -> None:
        for number in range(FILES_MAX - 1, 0, -1):
            older = Path(f"{self._path}.{number}")
            newer = Path(f"{self._path}.{number - 1}") if number > 1 else self._path
            if newer.exists():
                newer.replace(older)
        # The old one is closed last: if this fails, its number must not lead to something else that was opened meanwhile.
        fresh = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        os.close(self._file)
        self._file, self._size = fresh, 0


def _pieces(line: bytes) -> list[bytes]:
    return [line[first : first + LINE_BYTES_MAX] for first in range(0, len(line) or 1, LINE_BYTES_MAX)]


def trim(directory: Path) -> None:
    """Removes all but the newest lives of one app."""
    lives: dict[tuple[int, int], list[Path]] = {}
    for path in directory.iterdir() if directory.is_dir() else ():
        if match := _LIFE_FILE.fullmatch(path.name):
            lives.setdefault((int(match[1]), int(match[2])), []).append(path)
    newest = sorted(lives, key=lambda life: max(path.stat().st_mtime for path in lives[life]), reverse=True)
    for life in newest[LIVES_KEPT:]:
        for path in lives[life]:
            path.unlink(missing_ok=True)


def remove(log_dir: str, app: str) -> None:
    shutil.rmtree(Path(log_dir) / "lives" / app, ignore_errors=True)
