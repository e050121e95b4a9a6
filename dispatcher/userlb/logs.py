"""The socket on which HAProxy says what has become of each request in a lane: one datagram each, dropped while nobody reads.

Read to the last one before a slot may become another container's: then each line belongs to what has the slot now.
"""

import asyncio
import contextlib
import logging
import socket
from pathlib import Path

import msgspec

from dispatcher.accesslog import AccessLog
from dispatcher.userlb.config import SLOT
from dispatcher.userlb.digesting import Digests
from dispatcher.userlb.lanes import Memory, SlotId
from dispatcher.userlb.lines import Line, access_line, parse

DATAGRAM_BYTES_MAX = 8192
BUFFER_BYTES = 4 << 20

_log = logging.getLogger(__name__)


class LogReader:
    def __init__(self, path: str, access_log: AccessLog, digests: Digests) -> None:
        self.memory = Memory()  # who has which slot now
        self.lines = 0
        self.malformed = 0
        self._path = Path(path)
        self._access_log = access_log
        self._digests = digests
        self._socket: socket.socket | None = None

    def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.bind(str(self._path))
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def drain(self) -> None:
        """All that has been said until now was said of those who have the slots."""
        self._read()

    def _read(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                self._take(self._socket.recv(DATAGRAM_BYTES_MAX))

    def _take(self, datagram: bytes) -> None:
        if not datagram.startswith(b"{"):  # of HAProxy itself: that it stops, for example
            _log.info("HAProxy: %s", datagram.decode(errors="replace").strip())
            return
        try:
            line = parse(datagram)
        except msgspec.DecodeError as error:
            if not self.malformed:
                _log.warning("HAProxy logged what cannot be read (%s): %r", error, datagram[:500])
            self.malformed += 1
            return
        self.lines += 1
        if line.status < 0 or not (line.server.startswith(("<", SLOT)) or line.via == "files"):
            return  # a UserProxy answered it, and logs it; or nobody had asked for anything
        self._write(line)

    def _write(self, line: Line) -> None:
        life = ""
        if line.server.startswith(SLOT):
            life = self.memory.lives.get(SlotId(line.lane, int(line.server.removeprefix(SLOT)) - 1), "")
            if life:
                self._digests.take(line, life)
        self._access_log.write(access_line(line, self.memory.owners.get(line.lane, ""), life))
