"""The agent's Unix socket: who is there, what he may say, and what he is told."""

import asyncio
import logging
import os
import pwd
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from dispatcher.compute import protocol
from dispatcher.compute.protocol import Attach, Ensure, FromAgent, Refused, Responses, ToAgent, Traffic
from dispatcher.problems import Code, Problem

WRITE_BYTES_MAX = 64 << 20  # of a peer that does not read: past it he is cut off, and attaches again
_UCRED = struct.Struct("=iII")
_FOR_PROXIES = (Attach, Ensure, Traffic, Responses)
_log = logging.getLogger(__name__)


class Peer:
    def __init__(self, number: int, uid: int, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.uid = uid
        self.attached = ""  # a proxy's name
        self._writer = writer

    def send(self, message: FromAgent) -> None:
        self._writer.write(protocol.encode(message))
        if self._writer.transport.get_write_buffer_size() > WRITE_BYTES_MAX:
            self._writer.transport.abort()

    def refuse(self, id: int, problem: Problem) -> None:
        self.send(Refused(id, problem.code, problem.message, problem.hint, problem.retry_after_s))


class Server:
    def __init__(
        self, path: str, proxy_user: str, said: Callable[[Peer, ToAgent], None], left: Callable[[Peer], None]
    ) -> None:
        self._path = Path(path)
        self._said = said
        self._left = left
        self._peers: dict[int, Peer] = {}
        self._handlers: set[asyncio.Task[None]] = set()
        self._last_number = 0
        self._server: asyncio.Server | None = None
        self._is_closing = False
        try:
            user = pwd.getpwnam(proxy_user)
            self._proxy_uid, self._proxy_gid = user.pw_uid, user.pw_gid
        except KeyError:
            self._proxy_uid, self._proxy_gid = 0, 0

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)
        old_umask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=protocol.LINE_BYTES_MAX)
        finally:
            os.umask(old_umask)
        os.chown(self._path, 0, self._proxy_gid)
        self._path.chmod(0o660)

    async def close(self) -> None:
        """Nobody leaves: the next agent's proxies are the same, and what they have in flight is."""
        self._is_closing = True
        if self._server:
            self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    @property
    def proxies(self) -> list[Peer]:
        return [peer for peer in self._peers.values() if peer.attached]

    @property
    def proxy_uids(self) -> set[int]:
        return {peer.uid for peer in self.proxies}

    def publish(self, message: FromAgent) -> None:
        for peer in self.proxies:
            peer.send(message)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        connection: socket.socket = writer.get_extra_info("socket")
        _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        self._last_number += 1
        peer = Peer(self._last_number, uid, writer)
        self._peers[peer.number] = peer
        try:
            while line := await reader.readline():
                self._take(peer, line)
        except (msgspec.DecodeError, ValueError, ConnectionError, PermissionError) as error:
            _log.warning("connection of user %d ended: %s", uid, error)
        finally:
            del self._peers[peer.number]
            self._handlers.discard(handler)
            if not self._is_closing:
                self._left(peer)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    def _take(self, peer: Peer, line: bytes) -> None:
        """Raises PermissionError after saying so, where the peer's user may not say this."""
        message = protocol.decode_to_agent(line)
        allowed = peer.uid == 0 or (peer.uid == self._proxy_uid and isinstance(message, _FOR_PROXIES))
        if not allowed:
            id = getattr(message, "id", 0)
            hint = "run it as root"
            peer.refuse(id, Problem(Code.FORBIDDEN, f"user {peer.uid} may not ask this of the agent", hint=hint))
            raise PermissionError(f"user {peer.uid} may not say {type(message).__name__}")
        if isinstance(message, Attach):
            peer.attached = message.name
        self._said(peer, message)
