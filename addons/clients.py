"""The clients' connections: their time limits, and the way to say something to their layers."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Mapping

from mitmproxy.connection import Client
from mitmproxy.proxy import events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.mode_specs import ReverseMode

from addons import streams
from addons.handler import PatientHandler
from dispatcher.tasks import Tasks

SWEEP_EVERY_S = 1.0
KEEPALIVE_IDLE_S, KEEPALIVE_EVERY_S, KEEPALIVE_PROBES = 60, 15, 4  # finds clients that went without a word


class Clients:
    def __init__(
        self, handlers: Mapping[tuple[object, ...] | str, ProxyConnectionHandler], hears: Callable[[str], bool]
    ) -> None:
        """`handlers` are mitmproxy's; `hears`: whether any other addon has this hook."""
        self._handlers = handlers
        self._hears = hears
        self._ours: dict[str, PatientHandler] = {}
        self.layers: dict[str, streams.Layer] = {}
        self._tasks = Tasks()

    def __len__(self) -> int:
        return len(self.layers)

    def connected(self, client: Client, keeper: streams.Keeper) -> None:
        """At once with our layers: mitmproxy's own way there, by a hook, is for protocols that have to be guessed."""
        if not isinstance(client.proxy_mode, ReverseMode):
            return
        handler = self._ours[client.id] = PatientHandler.made_of(self._handlers[client.id], self._hears, self._tasks)
        handler.layer = self.layers[client.id] = streams.Layer(Context(client, handler.layer.context.options), keeper)
        writer = handler.transports[client].writer
        assert isinstance(writer, asyncio.StreamWriter)
        _keep_alive(writer.get_extra_info("socket"))

    def disconnected(self, client: Client) -> None:
        self.layers.pop(client.id, None)
        if (handler := self._ours.pop(client.id, None)) is not None:
            handler.disconnected()

    def send(self, client: str, event: events.Event) -> None:
        if (handler := self._ours.get(client)) is not None:
            handler.take(event)

    def stop_dialling(self, client: str) -> bool:
        """Ends a connection attempt, which the stream then takes for a failed one."""
        handler = self._ours.get(client)
        return handler is not None and handler.stop_dialling()

    def read(self, client: str, go_on: bool) -> None:
        if (handler := self._ours.get(client)) is not None:
            handler.read(go_on)

    def check_later(self, client: str, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._check, client)

    def _check(self, client: str) -> None:
        top = self.layers.get(client)
        if top is not None and top.overdue(time.monotonic()):
            self.send(client, streams.PeerOverdue())

    async def sweep(self) -> None:
        """Ends connections whose client takes too long. One task for all: a timer for each would cost more than the requests."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            for client in list(self.layers):
                self._check(client)

    async def close(self) -> None:
        await self._tasks.close()


def _keep_alive(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
