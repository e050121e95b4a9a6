"""What a container writes, from its FIFOs to files, or to the terminal of whoever runs it."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from containerlib.whole import no_room

READ_BYTES = 1 << 16


class File:
    """Grows to `bytes_max`, then begins anew; the one before is kept as NAME.1."""

    def __init__(self, path: str, bytes_max: int) -> None:
        self.path = Path(path)
        self._bytes_max = bytes_max
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        # Not through a link: with root's rights it would lead anywhere.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self.path, flags, 0o640)
        self._size = os.fstat(self._fd).st_size

    def write(self, data: bytes) -> None:
        if self._size and self._size + len(data) > self._bytes_max:
            self._begin_anew()
        self._size += os.write(self._fd, data)

    def _begin_anew(self) -> None:
        """Raises OSError, and all is as it was: a number that was closed may be another file's by the next write."""
        full, previous = self._fd, Path(f"{self.path}.1")
        self.path.replace(previous)
        try:
            self._open()
        except OSError:
            previous.replace(self.path)
            raise
        os.close(full)

    def close(self) -> None:
        os.close(self._fd)


class Terminal:
    """Standard output or error of this process. Whoever does not read it holds the container up, as with any program."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.path = Path(f"/proc/self/fd/{fd}")

    def write(self, data: bytes) -> None:
        with suppress(BrokenPipeError):
            while data:
                data = data[os.write(self._fd, data) :]

    def close(self) -> None: ...


Sink = File | Terminal


class Output:
    """Follows both FIFOs until it is closed; then takes along what is still in them. `say` hears, once until it is over, that what
    the container writes is lost."""

    def __init__(self, fds: Sequence[int], sinks: Sequence[Sink], say: Callable[[str], None]) -> None:
        self._sinks = dict(zip(fds, sinks, strict=True))
        self._say = say
        self._is_lossy = False
        for fd in fds:
            asyncio.get_running_loop().add_reader(fd, self._read, fd)

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(fd)
            return False
        sink = self._sinks[fd]
        try:
            sink.write(data)
            self._is_lossy = False
        except OSError as error:  # a full disk must not take the container down
            if not self._is_lossy:
                self._say(f"what it writes is lost: {no_room(error, sink.path)}")
            self._is_lossy = True
        return True

    def close(self, *, rest_bytes_max: int = 1 << 22) -> None:
        """Somebody who was handed a FIFO may go on writing for ever."""
        for fd, sink in self._sinks.items():
            asyncio.get_running_loop().remove_reader(fd)
            for _ in range(rest_bytes_max // READ_BYTES):
                if not self._read(fd):
                    break
            sink.close()
