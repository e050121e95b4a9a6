"""stdout and stderr of each life, from its FIFOs to a file of its own, bounded.

LOG_DIR/lives/APP/ID.GENERATION.log, one line `2026-11-23T05:49:25.123456Z out text` each; past LIFE_BYTES_MAX the file becomes
`.1` and so on, FILES_MAX of them. Of each app the newest LIVES_KEPT lives are kept. If this reader dies, the
lines wait in the FIFO.
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
_READ_BYTES = 1 << 16
_LIFE_FILE = re.compile(r"(\d+)\.(\d+)\.log(?:\.\d+)?")
_log = logging.getLogger(__name__)


class LifeLog:
    """Reads a life's two FIFOs until their writers are gone."""

    def __init__(self, directory: Path, name: str, fds: tuple[int, int], stamp: Callable[[], str]) -> None:
        self._path = directory / f"{name}.log"
        self._streams = {fds[0]: b"out", fds[1]: b"err"}
        self._partial = dict.fromkeys(fds, b"")
        self._stamp = stamp
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._file).st_size

    def follow(self) -> None:
        for fd in self._streams:
            asyncio.get_running_loop().add_reader(fd, self._read, fd)

    def close(self) -> None:
        """Takes what is still in the FIFOs along. The FIFOs' descriptors stay their owner's."""
        for fd in self._streams:
            asyncio.get_running_loop().remove_reader(fd)
            while self._read(fd):
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
        if self._size + len(data) > LIFE_BYTES_MAX:
            self._rotate()
        try:
            self._size += os.write(self._file, data)
        except OSError as error:  # a full disk must not take the agent down
            _log.warning("log %s: %s", self._path, error)

    def _rotate(self) -> None:
        os.close(self._file)
        for number in range(FILES_MAX - 1, 0, -1):
            older = Path(f"{self._path}.{number}")
            newer = Path(f"{self._path}.{number - 1}") if number > 1 else self._path
            if newer.exists():
                newer.replace(older)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = 0


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
