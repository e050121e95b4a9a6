"""One client's connection: mitmproxy's handler with less between the sockets and the layers.

mitmproxy has a task and a pair of streams for each socket, takes a lock for each event, writes each piece by itself and reads on
while a request is held. Here a socket's data goes to the layers in the loop's own callback, what they send at one event goes out
in one piece, and reading stops while nobody can take more.

Pinned to mitmproxy 12.2; tests/addons/test_conformance.py notices a change.
"""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable

from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import commands, events, server_hooks
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.utils import asyncio_utils

from addons.backend import Backend, is_ip_address
from dispatcher.tasks import Tasks

CONGESTED_BYTES = 64 << 10  # of what the client has not taken yet; asyncio's own limit, at which `drain` begins to wait


class _Reader(asyncio.StreamReader):
    """Hands on what comes instead of keeping it. An ordinary one becomes this when the first data may be there already."""

    _take: Callable[[bytes], None] | None
    _ended: asyncio.Future[None]

    @staticmethod
    def made_of(reader: asyncio.StreamReader) -> "_Reader":
        reader.__class__ = _Reader
        assert isinstance(reader, _Reader)
        reader._take = None
        reader._ended = asyncio.get_running_loop().create_future()
        if reader.at_eof():
            reader._ended.set_result(None)
        return reader

    async def hand_to(self, take: Callable[[bytes], None]) -> None:
        """Until the end, which is the peer's or an error."""
        # Not at once: mitmproxy does not know of the task that we are in yet, and could not end it.
        asyncio.get_running_loop().call_soon(self._begin, take)
        await self._ended

    def _begin(self, take: Callable[[bytes], None]) -> None:
        buffered: bytearray = self._buffer  # type: ignore[attr-defined]
        self._take, data = take, bytes(buffered)
        buffered.clear()
        if data:
            take(data)

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]
        if self._take is None:
            super().feed_data(data)
        else:
            self._take(data)

    def feed_eof(self) -> None:
        super().feed_eof()
        if not self._ended.done():
            # After what has just been fed, should that still have to wait for `_begin`.
            asyncio.get_running_loop().call_soon(self._end)

    def set_exception(self, exc: BaseException) -> None:
        super().set_exception(exc)  # type: ignore[arg-type]
        self.feed_eof()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


class PatientHandler(ProxyConnectionHandler):
    _hears: Callable[[str], bool]
    _tasks: Tasks
    _queue: deque[events.Event]
    _busy: bool
    _unsent: dict[Connection, list[bytes]]
    _backends: dict[Connection, Backend]
    _opening: dict[Backend, commands.OpenConnection]
    _may_read: bool
    _relief: asyncio.Task[None] | None

    @staticmethod
    def made_of(handler: ProxyConnectionHandler, hears: Callable[[str], bool], tasks: Tasks) -> "PatientHandler":
        handler.__class__ = PatientHandler
        assert isinstance(handler, PatientHandler)
        handler._hears, handler._tasks = hears, tasks
        handler._queue, handler._busy = deque(), False
        handler._unsent, handler._backends, handler._opening = {}, {}, {}
        handler._may_read, handler._relief = True, None
        return handler

    # The client

    async def handle_connection(self, connection: Connection) -> None:
        """The client's: a backend has no task."""
        reader, writer = self.transports[connection].reader, self._writer
        assert isinstance(reader, asyncio.StreamReader)
        cancelled: asyncio.CancelledError | None = None
        try:
            await _Reader.made_of(reader).hand_to(self._received)
            connection.state &= ~ConnectionState.CAN_READ
        except asyncio.CancelledError as error:
            cancelled, connection.state = error, ConnectionState.CLOSED
        self.take(events.ConnectionClosed(connection))
        if connection.state is ConnectionState.CAN_WRITE:
            try:
                await asyncio.Event().wait()  # what is still to be sent to it; `close_connection` cancels
            except asyncio.CancelledError as error:
                cancelled = error
        writer.close()
        self.transports.pop(connection)
        if cancelled:
            raise cancelled

    @property
    def _writer(self) -> asyncio.StreamWriter:
        writer = self.transports[self.client].writer
        assert isinstance(writer, asyncio.StreamWriter)
        return writer

    def _received(self, data: bytes) -> None:
        if self.client in self.transports:
            self.take(events.DataReceived(self.client, data))

    def read(self, go_on: bool) -> None:
        self._may_read = go_on
        self.congestion_changed()

    def congestion_changed(self) -> None:
        """A backend is full, or has room again."""
        if self.client in self.transports:
            transport = self._writer.transport
            assert isinstance(transport, asyncio.ReadTransport)
            if self._may_read and not any(backend.congested for backend in self._backends.values()):
                transport.resume_reading()
            else:
                transport.pause_reading()

    async def _relieve(self, writer: asyncio.StreamWriter) -> None:
        """The client is slow: what a backend sends stays in its socket meanwhile."""
        for backend in self._backends.values():
            backend.pause(True)
        try:
            await writer.drain()
        except OSError:
            pass  # it has gone, which its reader says too
        finally:
            self._relief = None
            for backend in self._backends.values():
                backend.pause(False)

    # The layers

    async def server_event(self, event: events.Event) -> None:
        self.take(event)

    def take(self, event: events.Event) -> None:
        """An event that comes while another one is dealt with waits for its turn."""
        self._queue.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                try:
                    for command in self.layer.handle_event(self._queue.popleft()):
                        self._obey(command)
                except Exception:  # noqa: BLE001 - what goes wrong for one client
                    self.log("mitmproxy has crashed!", logging.ERROR, exc_info=True)
            for connection in list(self._unsent):
                self._send(connection)
        finally:
            self._busy = False

    def _obey(self, command: commands.Command) -> None:
        if isinstance(command, commands.SendData):
            self._unsent.setdefault(command.connection, []).append(command.data)
        elif isinstance(command, commands.OpenConnection):
            self._open(command)
        elif isinstance(command, commands.CloseConnection):
            self._close(command.connection, isinstance(command, commands.CloseTcpConnection) and command.half_close)
        elif isinstance(command, commands.StartHook):
            name = f"handle_hook({command.name})"
            client = self.client.peername
            asyncio_utils.create_task(self.hook_task(command), name=name, keep_ref=True, client=client)
        elif isinstance(command, commands.Log):
            self.log(command.message, command.level)
        else:
            raise RuntimeError(f"Unexpected command: {command}")

    def _send(self, connection: Connection) -> None:
        pieces = self._unsent.pop(connection, None)
        if pieces is None:
            return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if (backend := self._backends.get(connection)) is not None:
            backend.write(data)
        elif connection in self.transports:
            writer = self._writer
            if not writer.is_closing():
                writer.write(data)
                if self._relief is None and writer.transport.get_write_buffer_size() > CONGESTED_BYTES:
                    self._relief = self._tasks.start(self._relieve(writer), name="slow client")

    def _close(self, connection: Connection, half: bool) -> None:
        self._send(connection)
        if connection is self.client:
            if connection in self.transports:
                self.close_connection(connection, half)
            return
        if (backend := self._backends.get(connection)) is None:
            return
        if backend in self._opening:
            backend.refuse("closed before it was open")
            return
        if half and connection.state & ConnectionState.CAN_WRITE:
            backend.half_close()
            connection.state &= ~ConnectionState.CAN_WRITE
        elif not half:
            connection.state = ConnectionState.CLOSED
        if connection.state is ConnectionState.CLOSED:
            self._drop(backend)

    # Backends

    def _open(self, command: commands.OpenConnection) -> None:
        connection = command.connection
        backend = self._backends[connection] = Backend(connection, self)
        self._opening[backend] = command
        connection.timestamp_start = time.time()
        assert connection.address is not None
        if self._relief is not None:
            backend.pause(True)
        if connection.address == self.client.sockname[:2]:
            backend.refuse("this is our own address")  # without it two of us could pass a request on for ever
        elif self._hears("server_connect") or not is_ip_address(connection.address[0]):
            self._tasks.start(self._open_slowly(backend, connection.address), name="dial")
        else:
            backend.dial(connection.address)

    async def _open_slowly(self, backend: Backend, address: tuple[str, int]) -> None:
        """With what other addons have to say about it, and a name that has to be looked up."""
        await self.handle_hook(server_hooks.ServerConnectHook(self._hook_data(backend)))
        if backend.connection.error:
            backend.refuse(f"Connection killed: {backend.connection.error}")
            return
        try:
            found = await asyncio.get_running_loop().getaddrinfo(*address, type=socket.SOCK_STREAM)
        except OSError as error:
            backend.refuse(str(error))
            return
        if backend in self._opening:
            host, port = found[0][4][:2]
            backend.dial((str(host), int(port)), backend.connection.sockname)

    def _hook_data(self, backend: Backend) -> server_hooks.ServerConnectionHookData:
        return server_hooks.ServerConnectionHookData(client=self.client, server=backend.connection)

    def opened(self, backend: Backend, error: str | None) -> None:
        command = self._opening.pop(backend, None)
        if command is None:
            return
        connection = backend.connection
        hook: commands.StartHook
        if error is None:
            connection.timestamp_tcp_setup = time.time()
            connection.state = ConnectionState.OPEN
            connection.peername = connection.address
            name, hook = "server_connected", server_hooks.ServerConnectedHook(self._hook_data(backend))
        else:
            connection.error = error
            self._backends.pop(connection, None)
            name, hook = "server_connect_error", server_hooks.ServerConnectErrorHook(self._hook_data(backend))
        if self._hears(name):
            self._tasks.start(self._tell(hook, command, error), name=name)
        else:
            self.take(events.OpenConnectionCompleted(command, error))

    async def _tell(self, hook: commands.StartHook, command: commands.OpenConnection, error: str | None) -> None:
        if error is None:
            command.connection.sockname = self._backends[command.connection].local_address
        await self.handle_hook(hook)
        self.take(events.OpenConnectionCompleted(command, error))

    def received(self, backend: Backend, data: bytes) -> None:
        self.take(events.DataReceived(backend.connection, data))

    def ended(self, backend: Backend) -> None:
        connection = backend.connection
        connection.state &= ~ConnectionState.CAN_READ
        self.take(events.ConnectionClosed(connection))
        if connection in self._backends and connection.state is not ConnectionState.CAN_WRITE:
            self._drop(backend)

    def _drop(self, backend: Backend) -> None:
        connection = backend.connection
        del self._backends[connection]
        backend.close()
        connection.timestamp_end = time.time()
        if backend.congested:
            self.congestion_changed()
        if not backend.has_ended:
            self.take(events.ConnectionClosed(connection))
        if self._hears("server_disconnected"):
            hook = server_hooks.ServerDisconnectedHook(self._hook_data(backend))
            self._tasks.start(self.handle_hook(hook), name="server_disconnected")

    def stop_dialling(self) -> bool:
        """The layers then take the attempt for a failed one. False if there is none."""
        dialling = list(self._opening)
        for backend in dialling:
            backend.refuse("connection cancelled")
        return bool(dialling)

    def disconnected(self) -> None:
        """The client has gone, and everything with it."""
        self.stop_dialling()
        for backend in list(self._backends.values()):
            if backend.connection in self._backends:
                backend.connection.state = ConnectionState.CLOSED
                self._drop(backend)
