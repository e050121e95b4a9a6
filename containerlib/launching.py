"""The agent's line to the launcher: ask for a blank, hear which of its children ended.

A launcher of other code than ours is told to begin anew, once: where that does not help it is our own files that were changed.
"""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from containerlib import code
from containerlib.cgroups import Group
from containerlib.handle import USUAL_KIND, Kind

ANSWER_TIMEOUT_S = 10.0
EXITS_KEPT = 1000  # that nobody has asked for yet; those of blanks that failed are never asked for
_log = logging.getLogger(__name__)


class LauncherLine:
    def __init__(self, path: str, on_lost: Callable[[], None]) -> None:
        self._path = path
        self._on_lost = on_lost
        self._code = code.checksum()
        self._restarted: int | None = None  # what code it had when it was told to
        self._ending = ""  # why no more is asked of the one that is connected
        self._socket: socket.socket | None = None
        self._replies: dict[int, asyncio.Future[tuple[int, list[int]]]] = {}
        self._exits: dict[int, int] = {}

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def connect(self) -> None:
        """Raises OSError when no launcher listens."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            raise
        connection.setblocking(False)
        self._socket = connection
        asyncio.get_running_loop().add_reader(connection, self._read)

    def close(self) -> None:
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        self._ending = ""
        self._refuse("the launcher went away")

    def _refuse(self, why: str) -> None:
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(ConnectionError(why))

    async def ask(
        self,
        slot: int,
        group: Group,
        etc_image: Path,
        descriptors: list[int],
        *,
        mapped: bool,
        own_filter: bool = False,
        kind: Kind = USUAL_KIND,
    ) -> tuple[int, list[int]]:
        """The blank's pid, and [its socket, its pidfd]. Raises OSError."""
        if self._socket is None:
            raise ConnectionError(f"no launcher listens at {self._path}; start it")
        if self._ending:
            raise ConnectionError(self._ending)
        reply: asyncio.Future[tuple[int, list[int]]] = asyncio.get_running_loop().create_future()
        self._replies[slot] = reply
        try:
            request = {
                "blank": slot,
                "groups": group.entrances(),
                "etc": str(etc_image),
                "mapped": mapped,
                "own_filter": own_filter,
                **kind.request(),
            }
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await reply
        finally:
            del self._replies[slot]

    async def exit_status(self, pid: int) -> int | None:
        """Of a child of the launcher that has ended; its word may come a moment after."""
        for _ in range(20):
            if pid in self._exits:
                return self._exits.pop(pid)
            if self._socket is None:
                return None
            await asyncio.sleep(0.002)
        return None

    def _read(self) -> None:
        assert self._socket is not None
        try:
            message, descriptors, _, _ = socket.recv_fds(self._socket, 65536, 2)
        except BlockingIOError:
            return
        except ConnectionError:
            message, descriptors = b"", []
        if not message:
            self.close()
            self._on_lost()
            return
        report = json.loads(message)
        if "code" in report:
            self._compare(report["code"])
            return
        if "exited" in report:
            self._exits[report["exited"]] = report["status"]
            while len(self._exits) > EXITS_KEPT:
                del self._exits[next(iter(self._exits))]
            return
        if "failed" in report:
            if (reply := self._replies.get(report["blank"])) and not reply.done():
                reply.set_exception(OSError(f"the launcher cannot make a process: {report['failed']}"))
            return
        self._exits.pop(report["pid"], None)  # of another process that had this number before
        if (reply := self._replies.get(report["blank"])) and not reply.done():
            reply.set_result((report["pid"], descriptors))
        else:
            for fd in descriptors:
                os.close(fd)

    def _compare(self, theirs: int) -> None:
        assert self._socket is not None
        if theirs == self._code:
            self._restarted = None
        elif theirs == self._restarted:
            _log.warning(
                "the launcher at %s has newer code than this agent: restart the agent, containers stay", self._path
            )
        else:
            self._ending = "the launcher runs other code than this agent, and begins anew"
            _log.warning("%s; containers stay", self._ending)
            self._restarted = theirs
            self._refuse(self._ending)
            with suppress(ConnectionError):
                self._socket.send(b'{"restart": true}')  # what it has still to tell is heard first
