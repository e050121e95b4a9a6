"""`fastcontainer userlb`: HAProxy and who keeps its lanes.

SIGINT ends both, softly. SIGTERM ends the controller alone: for a few seconds HAProxy goes on as it is, until the next controller
has it; without one it then sends everything to the UserProxies.
"""

import asyncio
import logging
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import start_http_server

from dispatcher.accesslog import AccessLog
from dispatcher.cmdb.cache import CMCache
from dispatcher.cmdb.client import EtcdStore
from dispatcher.cmdb.store import Store
from dispatcher.compute.protocol import Gone, Live
from dispatcher.problems import Code, Problem
from dispatcher.settings import Settings, host_port
from dispatcher.tasks import Tasks
from dispatcher.userlb import entrance, metrics
from dispatcher.userlb.config import Pool
from dispatcher.userlb.controller import Controller
from dispatcher.userlb.digesting import Digests
from dispatcher.userlb.gate import Gate
from dispatcher.userlb.link import LaneLink
from dispatcher.userlb.logs import LogReader

CONNECTIONS_MAX = 10_000
DESCRIPTORS_KEPT = 100  # beside the two of each connection

_log = logging.getLogger(__name__)


def pool_of(settings: Settings) -> Pool:
    """Raises Problem."""
    if settings.userlb_listen in ("", "off"):
        raise Problem(
            Code.INVALID,
            "userlb_listen says nowhere to listen",
            hint="set it to HOST:PORT, and userproxy_listen to another one",
        )
    if shutil.which("haproxy") is None:
        raise Problem(Code.INVALID, "there is no haproxy", hint="apt install haproxy, or do without: see docs/lanes.md")
    open_files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return Pool(
        listen=(settings.userlb_listen,),
        proxies=tuple(each.userproxy_listen for each in settings.userproxies),
        trusted=settings.trusted_proxies,
        directory=settings.userlb_dir,
        secure=(settings.userlb_secure_listen,) if settings.userlb_secure_listen else (),
        speak_proxy=settings.proxy_protocol,
        files=settings.files_socket,
        client_requests_per_s=settings.client_requests_per_s or None,
        client_connections=settings.client_connections or None,
        connections_max=min(CONNECTIONS_MAX, (open_files_max - DESCRIPTORS_KEPT) // 2),
    )


class UserLB:
    def __init__(self, settings: Settings, pool: Pool, *, open_store: Callable[[Settings], Store] = EtcdStore) -> None:
        Path(pool.directory).mkdir(mode=0o700, exist_ok=True)
        self._tasks = Tasks()
        self._store = open_store(settings)
        self._cache = CMCache(self._store)
        self._access_log = AccessLog(f"{settings.log_dir}/access/userlb.log")
        digests = Digests()
        self._logs = LogReader(pool.log_socket, self._access_log, digests)
        self._link = LaneLink(
            settings.agent_socket,
            "userlb",
            in_flight=lambda life: self.controller.counts.in_flight.get(life, 0),
            lives_in_use=lambda: self.controller.counts.in_flight,
            changed=self._containers_changed,
        )
        self.controller = Controller(pool, self._cache, self._link, digests=digests, log=self._logs)
        metrics.observe(self.controller, self._logs)
        self._gate = Gate(pool, self._cache, self._store, settings.certificate_dir)
        self._pool = pool
        self._alive_socket = pool.alive_socket
        self._alive: asyncio.Server | None = None

    def _containers_changed(self, message: Live | Gone) -> None:
        self.controller.containers_changed(message)

    async def start(self) -> None:
        """Returns when HAProxy takes requests; the lanes are filled when the CMDB and the agent have told theirs."""
        self._logs.start()
        self._alive = await asyncio.start_unix_server(self._say_alive, self._alive_socket)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._access_log.reopen)
        self._link.start()
        entrance.prepare(self._pool, time.time())
        await self.controller.haproxy.obtain()
        self._tasks.start(self._gate.private.run(), name="follow the UserLB's keys")
        self._tasks.start(self._control(), name="control lanes")

    async def _control(self) -> None:
        await self._cache.start()
        self._tasks.start(self._gate.run(), name="keep the entrance")
        await self._link.synced.wait()
        await self.controller.run()

    async def _say_alive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.controller.is_alive():
            writer.write(b"alive\n")
        writer.close()

    async def close(self, *, with_haproxy: bool) -> None:
        await self._tasks.close()
        if with_haproxy:
            await self.controller.haproxy.stop()
        else:
            self.controller.haproxy.let_go()
        if self._alive is not None:
            self._alive.close()
        self._logs.close()
        self._access_log.close()
        await self._link.close()
        await self._cache.close()
        await self._store.close()


def _serve_metrics(settings: Settings) -> None:
    host, port = host_port(settings.userlb_metrics)
    try:
        start_http_server(port, host)
    except OSError as error:
        _log.error("metrics are not served at %s: %s", settings.userlb_metrics, error)


async def _serve(settings: Settings) -> None:
    userlb = UserLB(settings, pool_of(settings))
    stop: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def at(number: int) -> Callable[[], None]:
        return lambda: None if stop.done() else stop.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, at(number))
    try:
        await userlb.start()
        _serve_metrics(settings)
        await userlb.close(with_haproxy=await stop == signal.SIGINT)
    except BaseException:
        await userlb.close(with_haproxy=False)
        raise


def main(settings: Settings) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_serve(settings))
