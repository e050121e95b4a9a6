"""The lines of lives' log files, followed through rotation: FILE becomes FILE.1, FILE.1 becomes FILE.2.

Files are known by their inode, so a line is neither lost nor told twice however often the writer rotates, unless it rotates
past the last file that it keeps.
"""

import heapq
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

READ_BYTES = 1 << 16
LIFE_FILE = re.compile(r"(\d+\.\d+)\.log")
_ROTATED = re.compile(r"(\d+\.\d+)\.log\.\d+")
_LINE = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+Z) (out|err) ?(.*)", re.DOTALL)


class Line(NamedTuple):
    at: str  # sorts by time
    life: str
    stream: str
    text: str


def parse(line: bytes, life: str) -> Line | None:
    """None for what the agent did not write whole: the rest of a line cut by a crash."""
    match = _LINE.fullmatch(line.decode(errors="replace"))
    return Line(match[1], life, match[2], match[3]) if match else None


class LifeReader:
    """`new_lines` gives what was written since it was last asked."""

    def __init__(self, path: Path, life: str) -> None:
        self._path = path
        self._life = life
        self._file: BinaryIO | None = None
        self._partial = b""

    def new_lines(self) -> Iterator[Line]:
        while self._file is not None or self._open_newer():
            yield from self._rest_of_file()
            if not self._is_rotated():
                return
            yield from self._rest_of_file()  # what was written between the last read and the rotation
            if not self._open_newer():
                return

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _rest_of_file(self) -> Iterator[Line]:
        assert self._file is not None
        while data := self._file.read(READ_BYTES):
            *lines, self._partial = (self._partial + data).split(b"\n")
            yield from filter(None, (parse(line, self._life) for line in lines))

    def _is_rotated(self) -> bool:
        return self._files()[:1] != [self._identity()]

    def _identity(self) -> tuple[int, int]:
        assert self._file is not None
        found = os.fstat(self._file.fileno())
        return found.st_dev, found.st_ino

    def _files(self) -> list[tuple[int, int]]:
        return [(found.st_dev, found.st_ino) for path in self._paths() if (found := _stat(path))]

    def _paths(self) -> list[Path]:
        """The newest first."""
        older = [path for path in self._path.parent.glob(f"{self._path.name}.*") if _ROTATED.fullmatch(path.name)]
        return [self._path, *sorted(older, key=lambda path: int(path.suffix[1:]))]

    def _open_newer(self) -> bool:
        """The next newer file than the open one; the oldest if none is open or it is no longer there."""
        paths = [(path, found) for path in self._paths() if (found := _stat(path))]
        identities = [(found.st_dev, found.st_ino) for _, found in paths]
        own = identities.index(self._identity()) if self._file and self._identity() in identities else len(paths)
        if own == 0:
            return False
        self.close()
        self._partial = b""
        try:
            self._file = paths[own - 1][0].open("rb", buffering=0)
        except FileNotFoundError:
            self._file = None
        return self._file is not None


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


class AppReader:
    """All lives of an app, also those that begin later; or one life."""

    def __init__(self, directory: Path, app: str, life: str = "") -> None:
        self._directory = directory
        self._app = app
        self._only = life
        self._readers: dict[str, LifeReader] = {}

    def new_lines(self) -> Iterable[Line]:
        """In the order of time. Raises FileNotFoundError while the app has no log here, PermissionError."""
        names = [match[1] for name in os.listdir(self._directory) if (match := LIFE_FILE.fullmatch(name))]  # noqa: PTH208
        for name in names:
            if name not in self._readers and self._only in ("", name):
                self._readers[name] = LifeReader(self._directory / f"{name}.log", f"{self._app}/{name}")
        return heapq.merge(*(reader.new_lines() for reader in self._readers.values()))

    def lives(self) -> list[str]:
        return list(self._readers)

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
