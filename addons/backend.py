"""A connection to a container or a Web Dispatcher: a socket in the event loop, with no task and no streams around it.

One is made for every request, so what asyncio and mitmproxy put between a socket and the layers was a third of a request's cost.
"""

import asyncio
import errno
import ipaddress
import os
import socket
from functools import lru_cache
from typing import Protocol

from mitmproxy.connection import Server

READ_BYTES_MAX = 64 << 10
CONGESTED_BYTES, FREE_BYTES = 64 << 10, 16 << 10  # of what the backend has not taken yet
FLUSH_S_MAX = 10.0  # after its end, for what it has not taken yet
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)


class Owner(Protocol):
    def opened(self, backend: "Backend", error: str | None) -> None: ...

    def received(self, backend: "Backend", data: bytes) -> None: ...

    def ended(self, backend: "Backend") -> None:
        """It sends no more. Said once, and not after `close`."""

    def congestion_changed(self) -> None: ...


class Backend:
    def __init__(self, connection: Server, owner: Owner) -> None:
        self.connection = connection
        self.is_open = False
        self.has_ended = False
        self.congested = False
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._unsent = bytearray()
        self._broken = self._paused = self._half_closes = False
        self._flush_timer: asyncio.TimerHandle | None = None

    def dial(self, address: tuple[str, int], local: tuple[str, int] | None = None) -> None:
        """`opened` is called in the course of it or later. The host is an IP address."""
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            sock = self._sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if local is not None:
                sock.bind(local)
            code = sock.connect_ex(address)
            if code == errno.EINPROGRESS:
                code = sock.connect_ex(
                    address
                )  # on this host it is there already: spares two calls of epoll and a turn
        except OSError as error:
            self.refuse(str(error))
            return
        if code in _UNDER_WAY:
            self._loop.add_writer(sock.fileno(), self._connected)
        else:
            self._settle(code)

    def _connected(self) -> None:
        assert self._sock is not None
        self._loop.remove_writer(self._sock.fileno())
        self._settle(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _settle(self, code: int) -> None:
        if code:
            self.refuse(os.strerror(code))
            return
        assert self._sock is not None
        self.is_open = True
        if not self._paused:
            self._loop.add_reader(self._sock.fileno(), self._readable)
        self._owner.opened(self, None)

    def refuse(self, error: str) -> None:
        """Ends the attempt."""
        self.abort()
        self._owner.opened(self, error)

    @property
    def local_address(self) -> tuple[str, int]:
        assert self._sock is not None
        name: tuple[str, int] = self._sock.getsockname()
        return name

    def pause(self, yes: bool) -> None:
        """Whether what it sends is left in the socket."""
        if yes is self._paused:
            return
        self._paused = yes
        if self.is_open and not self.has_ended and self._sock is not None:
            if yes:
                self._loop.remove_reader(self._sock.fileno())
            else:
                self._loop.add_reader(self._sock.fileno(), self._readable)

    def _readable(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(READ_BYTES_MAX)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._owner.received(self, data)
        else:
            self.has_ended = True
            self._loop.remove_reader(self._sock.fileno())
            self._owner.ended(self)

    def write(self, data: bytes) -> None:
        if self._broken or self._sock is None:
            return
        if not self._unsent:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._broken = True  # what it has sent before may still be read, and then its end
                return
            if sent == len(data):
                return
            data = data[sent:]
            self._loop.add_writer(self._sock.fileno(), self._writable)
        self._unsent += data
        self._note_congestion()

    def _writable(self) -> None:
        assert self._sock is not None
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._broken = True
            self._unsent.clear()
        if not self._unsent:
            self._loop.remove_writer(self._sock.fileno())
            if self._flush_timer is not None:
                self.abort()
                return
            if self._half_closes:
                self._shut_down()
        self._note_congestion()

    def _note_congestion(self) -> None:
        limit = FREE_BYTES if self.congested else CONGESTED_BYTES
        if (len(self._unsent) > limit) is not self.congested:
            self.congested = not self.congested
            self._owner.congestion_changed()

    def half_close(self) -> None:
        self._half_closes = True
        if not self._unsent:
            self._shut_down()

    def _shut_down(self) -> None:
        assert self._sock is not None
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._broken = True

    def close(self) -> None:
        """Nothing is read any more; what was written may still go out."""
        if self._sock is None or not self._unsent:
            self.abort()
        elif self._flush_timer is None:
            self._loop.remove_reader(self._sock.fileno())
            self._flush_timer = self._loop.call_later(FLUSH_S_MAX, self.abort)

    def abort(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._sock = None
        self.is_open = False
        self._unsent.clear()


@lru_cache(1024)
def is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
