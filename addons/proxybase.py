"""What both proxies are: a mitmproxy addon that holds a request in `requestheaders` until there is a container for it."""

import asyncio
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from mitmproxy import addonmanager, ctx, http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.mode_servers import AsyncioServerInstance, ServerInstance
from mitmproxy.utils import asyncio_utils

from addons import headers, messages, signing
from addons.clients import Clients
from addons.exchange import Exchange, Register
from addons.hearing import Others
from addons.holding import ClientLeft, Holding
from addons.measuring import InFlight, Metrics, MetricsServer
from addons.view import LocalView
from dispatcher import settings as settings_module
from dispatcher.accesslog import AccessLog
from dispatcher.cmdb.cache import CMCache
from dispatcher.cmdb.client import EtcdStore
from dispatcher.cmdb.store import Store
from dispatcher.compute.link import AgentLink
from dispatcher.compute.protocol import Gone, Live
from dispatcher.domain import App
from dispatcher.problems import Code, Problem
from dispatcher.settings import Settings, host_port
from dispatcher.tasks import Tasks

_log = logging.getLogger(__name__)

PLACEHOLDER = "http://127.0.0.1:9"  # the mode wants a backend; ours is chosen for each request
BACKLOG, BACKLOG_CHECK_S = 4096, 0.05
NEVER_S = 10 * 365 * 86400  # mitmproxy's inactivity limit would cut silent WebSockets; ours are finer (connections.py)


def _proxyserver() -> Proxyserver:
    found: Proxyserver = ctx.master.addons.get("proxyserver")  # type: ignore[no-untyped-call]
    return found


def _listeners(server: ServerInstance[Any]) -> list[asyncio.Server]:
    assert isinstance(server, AsyncioServerInstance)
    return [each for each in server._servers if isinstance(each, asyncio.Server)]


class Proxy:
    """Subclasses say which container a request is for (`admit`)."""

    role: str

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        worker: int = 1,
        open_store: Callable[[Settings], Store] = EtcdStore,
    ) -> None:
        """`worker`: which of several on this host (workers.py)."""
        self.settings = settings or settings_module.load()
        self.title = self.role if worker == 1 else f"{self.role}-{worker}"
        self._open_store = open_store
        self._running = self._closed = False
        self._key: bytes | None = None

    # Configuration of mitmproxy

    @property
    def listen(self) -> str:
        raise NotImplementedError

    @property
    def metrics_listen(self) -> str:
        raise NotImplementedError

    @property
    def _mode(self) -> str:
        return f"reverse:{PLACEHOLDER}@{self.listen}"

    def load(self, loader: addonmanager.Loader) -> None:
        self._set_options()
        self._forestall_regular_mode()

    def _forestall_regular_mode(self) -> None:
        """mitmdump loads scripts when it has begun to listen in regular mode on 8080, and gives up if that port is taken. It still
        looks up the address: stop it there. `running` starts our mode."""
        for task in asyncio.all_tasks():
            if task.get_name().startswith("setup_servers"):
                task.cancel()
                _proxyserver().servers._instances.clear()

    def _set_options(self) -> None:
        wanted = {
            "mode": [self._mode],
            "connection_strategy": "lazy",
            "keep_host_header": True,
            "tcp_timeout": NEVER_S,
            "websocket": False,  # relayed as bytes
            "flow_detail": 0,
            "termlog_verbosity": "warn",
        }
        ctx.options.update(**{k: v for k, v in wanted.items() if k in ctx.options})  # type: ignore[no-untyped-call]

    def running(self) -> None:
        if self._running:
            return
        self._running = True
        # mitmdump had told its server the mode before this script was loaded; saying it again starts it in ours.
        self._set_options()
        self._open()

    def _open(self) -> None:
        rng = random.Random()
        self.tasks = Tasks()
        self.others = Others(ctx.master, self)
        self.clients = Clients(_proxyserver().connections, self.others.hear)
        self.store = self._open_store(self.settings)
        self.cache = CMCache(self.store)
        self.in_flight = InFlight(self._report_traffic)
        self.link = AgentLink(
            self.settings.agent_socket,
            self.title,
            in_flight=self.in_flight.of,
            lives_in_use=self.in_flight.lives,
            changed=self._containers_changed,
        )
        self.view = self._make_view()
        self.holding = Holding(
            self.view,
            held_max=self.settings.held_max,
            in_flight=self.in_flight.counts,
            rng=rng,
            clock=time.monotonic,
        )
        self.metrics = Metrics(self.role, self._gauges, self.in_flight.counts)
        self.access_log = AccessLog(f"{self.settings.log_dir}/access/{self.title}.log")
        self.register = Register(
            self.clients,
            self.holding,
            self.in_flight,
            self.metrics,
            self.access_log,
            new_id=lambda: f"{rng.getrandbits(64):016x}",
            hears=self.others.hear,
            admits=self.admits_at_once,
        )
        self._trusted = headers.networks(self.settings.trusted_proxies)
        self._userlbs = headers.networks(self.settings.userlbs)
        self.loaded = asyncio.Event()
        self.link.start()
        self.tasks.start(self._load_cache(), name="load cmcache")
        self.tasks.start(self.clients.sweep(), name="sweep clients")
        self.tasks.start(self._widen_backlog(), name="widen backlog")
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.access_log.reopen)
        self._metrics_server = MetricsServer(self.metrics.registry)
        self.tasks.start(self._metrics_server.start(*host_port(self.metrics_listen)), name="metrics")

    def done(self) -> None:
        """The end of the process, or the reload of a script, which then makes another one of us."""
        if self._running:
            self.access_log.close()
            self._metrics_server.close()
            asyncio_utils.create_task(self.close(), name="close", keep_ref=True)

    async def idle(self) -> None:
        """Returns when no request is under way."""
        await self.register.empty.wait()

    async def close(self) -> None:
        """Ends what `running` began. May be called again."""
        if self._closed:
            return
        self._closed = True
        await self.holding.close()
        await self.clients.close()
        await self.tasks.close()
        await self.link.close()
        await self.cache.close()
        await self.store.close()

    async def _load_cache(self) -> None:
        await self.cache.start()
        self.loaded.set()

    async def _widen_backlog(self) -> None:
        """mitmproxy listens with asyncio's 100: a burst beyond that would wait for TCP's second attempt, a second later."""
        wanted = mode_specs.ProxyMode.parse(self._mode)
        while not (servers := [s for s in _proxyserver().servers if s.mode == wanted and s.is_running]):  # noqa: ASYNC110
            await asyncio.sleep(BACKLOG_CHECK_S)
        for listener in (sock for server in servers for each in _listeners(server) for sock in each.sockets):
            with socket.socket(fileno=os.dup(listener.fileno())) as same:
                same.listen(BACKLOG)

    def _make_view(self) -> LocalView:
        raise NotImplementedError

    def _report_traffic(self, counts: dict[str, int]) -> None:
        self.link.traffic(counts)

    def _containers_changed(self, message: Live | Gone) -> None:
        self.holding.changed(message.app)

    def _gauges(self) -> dict[str, float]:
        return {
            "held_requests": self.holding.held,
            "requests_under_way": len(self.register),
            "client_connections": len(self.clients),
            "cmcache_age_seconds": self.cache.age_s(time.monotonic()),
            "cmcache_keys": self.cache.size,
            "cmcache_watch_reconnects": self.cache.reconnects,
            "agent_attached": float(self.link.attached),
            "agent_connects": self.link.connects,
        }

    # Connections

    def client_connected(self, client: Client) -> None:
        self.running()  # mitmproxy listens a moment before it says so
        self.clients.connected(client, self.register)

    def client_disconnected(self, client: Client) -> None:
        self.clients.disconnected(client)
        self.register.client_gone(client.id)

    # Requests

    def admits_at_once(self, flow: http.HTTPFlow) -> bool:
        """Most requests need not wait for anything: they have a backend, or an answer, without a task and a hook."""
        exchange = self.register.passage(flow)
        exchange.looked_at = True
        try:
            return self.admit_at_once(flow, exchange)
        except Problem as problem:
            flow.response = self.register.problem(flow, problem)
        except Exception:  # noqa: BLE001 - as in a hook
            _log.exception("request %s", exchange.id)
            flow.response = self.register.internal_page(flow)
        return True

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Fails closed: without a backend on its exchange a request gets an error page (streams.py)."""
        exchange = self.register.passage(flow)
        if not exchange.looked_at and self.admits_at_once(flow):
            return
        try:
            await self.admit(flow, exchange)
        except ClientLeft:
            pass  # the stream finds that out for itself
        except Problem as problem:
            flow.response = self.register.problem(flow, problem)
        except Exception:  # noqa: BLE001 - the border of a hook
            _log.exception("request %s", exchange.id)
            flow.response = self.register.internal_page(flow)

    async def backend_failed(self, flow: http.HTTPFlow) -> None:
        exchange = self.register.passage(flow)
        assert exchange.backend is not None
        try:
            if exchange.failure != "malformed":
                self.view.suspect(exchange.backend)
            pause_s = exchange.pause_before_repeating(self.register.now())
            if pause_s is None:
                raise Problem(Code.CONTAINER_DIED, f"{exchange.backend.key}: {exchange.failure}")
            await asyncio.sleep(pause_s)
            await self.readmit(flow, exchange)
        except ClientLeft:
            pass
        except Problem as problem:
            flow.response = self.register.problem(flow, problem)
        except Exception:  # noqa: BLE001 - the border of a hook
            _log.exception("request %s", exchange.id)
            flow.response = self.register.internal_page(flow)

    def admit_at_once(self, flow: http.HTTPFlow, exchange: Exchange) -> bool:
        """As `admit`, which is called next if this returns False: the request has to wait."""
        raise NotImplementedError

    async def admit(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Leaves a backend on the exchange or a response on the flow; raises Problem or ClientLeft."""
        raise NotImplementedError

    async def readmit(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """The same for a request that its first backend has failed."""
        raise NotImplementedError

    def route_key(self) -> bytes:
        if self._key is None:
            try:
                self._key = signing.read_key(self.settings.route_key_path)
            except (OSError, ValueError) as error:
                raise Problem(Code.INTERNAL, f"routing key: {error}") from error
        return self._key

    def obtain_at_once(self, app: App, exchange: Exchange) -> bool:
        grant = self.holding.acquire_at_once(app)
        if grant is not None:
            self.register.granted(exchange, grant)
        return grant is not None

    async def obtain(self, app: App, exchange: Exchange, *, deadline: float, wanted: str = "") -> None:
        detail = f"{exchange.method} {exchange.host}{exchange.path}"
        grant = await self.holding.acquire(app, key=exchange.client, deadline=deadline, detail=detail, wanted=wanted)
        self.register.granted(exchange, grant)


def host_of(request: http.Request) -> bytes:
    return next((value for name, value in request.headers.fields if name.lower() == b"host"), b"")


def forwarded_request(request: http.Request, fields: list[tuple[bytes, bytes]], upgrade: bytes | None) -> http.Request:
    """The request as it goes to the backend. On a connection of its own: an idle one would keep a server with few workers busy."""
    if upgrade is None:
        fields.append((b"Connection", b"close"))
    else:
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", upgrade)]
    return messages.request(request.data.method, request.data.path, fields, scheme=b"http")
