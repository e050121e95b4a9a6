"""The agent's own truth about its lives: local, append-only, written before anything is done.

It lies in the run directory, which does not outlive a reboot; containers do not either. So a write into the page cache is as
durable as the containers themselves, and nothing waits for a disk.
"""

import logging
import os
from pathlib import Path

import msgspec

from dispatcher.domain import App, Cause, Status

COMPACT_AFTER_BYTES = 4 << 20
_log = logging.getLogger(__name__)


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One life. `app` is what it was started with, so that a new agent can keep it while the CMDB is away."""

    app: App
    container: str
    generation: int
    status: Status
    cause: Cause
    slot: int
    pid: int
    start_time: int  # of the process, in clock ticks since boot
    started: float
    expires: float
    concurrency: int = 32
    etc_image: str = ""
    gone: bool = False
    image: str = ""  # NAME@VERSION of its root
    ready: float = 0.0  # Unix time from which its timers count; 0: not yet

    @property
    def life(self) -> str:
        return f"{self.app.name}/{self.container}.{self.generation}"


class Journal:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()
        self._lives: dict[str, Record] = {}
        self._fd = -1

    def open(self) -> list[Record]:
        """The lives that were on record. A last line cut short by a death in the middle of a write is dropped."""
        decoder = msgspec.json.Decoder(Record)
        for line in self._path.read_bytes().splitlines() if self._path.exists() else ():
            try:
                record = decoder.decode(line)
            except msgspec.DecodeError:
                continue
            self._keep(record)
        self._rewrite()
        return list(self._lives.values())

    def write(self, record: Record) -> None:
        """A run directory without room is told, and bars nothing: a site that cannot be stopped would be worse than one that the
        next agent does not know."""
        self._keep(record)
        try:
            os.write(self._fd, self._encoder.encode(record) + b"\n")
            if os.fstat(self._fd).st_size > COMPACT_AFTER_BYTES + 2048 * len(self._lives):
                self._rewrite()
        except OSError as error:
            _log.error("journal %s: %s", self._path, error)

    def close(self) -> None:
        os.close(self._fd)

    def _keep(self, record: Record) -> None:
        if record.gone:
            self._lives.pop(record.life, None)
        else:
            self._lives[record.life] = record

    def _rewrite(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        # Root's alone: a record holds the app's environment, which is where passwords are.
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.writelines(self._encoder.encode(record) + b"\n" for record in self._lives.values())
        fresh.rename(self._path)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
