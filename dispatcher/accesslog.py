"""The access log: what proxies and lanes write of each request, in one form."""

import asyncio
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

LOG_EVERY_S = 0.2  # lines are kept back so long, so that many go out with one write
ACCESS_BYTES_MAX, ACCESS_FILES_MAX = 64 << 20, 4
CHARACTERS_MAX = 500  # of a path or host


class AccessLog:
    """One JSON line for each request. Past ACCESS_BYTES_MAX the file becomes `.1` and so on, ACCESS_FILES_MAX of them. `reopen`
    after somebody else has moved it; a file that is gone from its place is noticed too."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._file: int | None = None
        self._complained = False
        try:
            self.reopen()
        except OSError as error:
            _log.warning("access log: %s", error)

    def write(self, fields: Mapping[str, Any]) -> None:
        self._lines.append(json.dumps(fields, ensure_ascii=True, separators=(",", ":")))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOG_EVERY_S, self.flush)

    def flush(self) -> None:
        self._timer = None
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            if self._file is None or self._moved(self._file):
                self.reopen()
            assert self._file is not None
            os.write(self._file, ("\n".join(lines) + "\n").encode())
            if os.fstat(self._file).st_size > ACCESS_BYTES_MAX:
                self._rotate()
            self._complained = False
        except OSError as error:
            if not self._complained:
                _log.warning("access log: %s", error)
                self._complained = True

    def _moved(self, file: int) -> bool:
        try:
            here = self._path.stat()
        except FileNotFoundError:
            return True
        return not os.path.samestat(os.fstat(file), here)

    def _rotate(self) -> None:
        for number in range(ACCESS_FILES_MAX - 1, 0, -1):
            newer = Path(f"{self._path}.{number - 1}") if number > 1 else self._path
            if newer.exists():
                newer.replace(f"{self._path}.{number}")
        self.reopen()

    def reopen(self) -> None:
        self.close_file()
        self._path.parent.mkdir(mode=0o750, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.flush()
        self.close_file()


def timestamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"
