"""The agent as a process: composed, started, stopped; and what removes all traces of it.

Ending it (SIGTERM, or worse) leaves every container running; the next one adopts them.
"""

import asyncio
import fcntl
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from prometheus_client import start_http_server

from containerlib import readiness
from containerlib.bootstrap import usr
from containerlib.handle import Container
from containerlib.images import Store
from containerlib.readiness import ListenEvents
from containerlib.runtime import Config, Runtime
from dispatcher.cmdb.cache import CMCache
from dispatcher.cmdb.client import EtcdStore
from dispatcher.compute import metrics
from dispatcher.compute.agent import Agent
from dispatcher.compute.definitions import Shelf
from dispatcher.compute.helper import Helper
from dispatcher.compute.journal import Journal
from dispatcher.compute.lives import Lives
from dispatcher.compute.pool import Pool
from dispatcher.compute.restored import Keeper
from dispatcher.compute.roots import Roots, clear_stages
from dispatcher.settings import Settings, host_port
from dispatcher.tasks import Tasks

LAUNCHER_RETRY_S = 0.1
CLEAN_GRACE_S = 3.0
_log = logging.getLogger(__name__)


def _config(settings: Settings) -> Config:
    return Config(
        run_dir=Path(settings.run_dir),
        images=Path(settings.state_dir) / "images" / "etc",
        launcher_socket=settings.launcher_socket,
        network=settings.network,
        cgroup=settings.cgroup,
    )


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Two agents in one run directory would each take the other's containers for left-overs. Raises BlockingIOError."""
    run_dir = Path(settings.run_dir)
    run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    with open(run_dir / "agent.lock", "w") as lock:
        os.fchmod(lock.fileno(), 0o600)  # whoever can read a file can lock it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"an agent runs in {run_dir} already (it holds agent.lock); stop it first"
            raise BlockingIOError(message) from None
        yield


def _tracefs_mark(settings: Settings) -> Path:
    return Path(settings.run_dir) / "tracefs-mounted"


class Daemon:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tasks = Tasks()
        self._launcher_lost = asyncio.Event()
        self._launcher_lost.set()

    async def run(self, stop: asyncio.Event) -> None:
        settings = self._settings
        runtime = Runtime(_config(settings), on_launcher_lost=self._launcher_lost.set)
        await runtime.start()
        events = self._open_events()
        journal = Journal(Path(settings.run_dir) / "journal")
        records = journal.open()
        store = EtcdStore(settings)
        cache = CMCache(store)
        clear_stages(Path(settings.run_dir))
        helper = Helper(self._tasks)
        helper.start()
        roots = Roots(Store(Path(settings.image_dir)), Path(settings.run_dir))
        keeper = Keeper(runtime, _checkpoints(settings))
        shelf = Shelf(Path(settings.definition_dir))
        await shelf.refresh()
        agent = Agent(settings, store, cache, self._tasks, roots, shelf)
        pool = Pool(runtime, settings.blanks, self._tasks)
        agent.lives = Lives(
            runtime, pool, events, journal, Path(settings.log_dir), self._tasks, agent, roots, shelf, helper, keeper
        )
        try:
            adopted = [record for record in records if await agent.lives.adopt(record)]
            for record in records:
                if record not in adopted:
                    journal.write(msgspec.structs.replace(record, gone=True))
            left = await runtime.sweep({record.slot for record in adopted})
            _log.info("adopted %d containers, removed what was left of %d slots", len(adopted), len(left))
            await self._remove_old_etc(runtime, {record.etc_image for record in adopted})
            self._tasks.start(self._stay_connected(runtime), name="launcher")
            pool.start()
            agent.start()
            await agent.reception.start()
            self._serve_metrics(cache)
            await stop.wait()
        finally:
            await agent.close()
            await self._tasks.close()
            agent.lives.close()
            helper.close()
            roots.close()
            await pool.close()
            await cache.close()
            await store.close()
            events.close()
            journal.close()
            await runtime.close()

    async def _remove_old_etc(self, runtime: Runtime, used: set[str]) -> None:
        try:
            used.add((await runtime.etc_image()).name)
        except OSError as error:  # what runs goes on; whoever is woken before there is room is told the same
            _log.error("containers have no /etc: %s", error)
        else:
            usr.remove_unused(_config(self._settings).images, used)

    def _open_events(self) -> ListenEvents:
        events = ListenEvents(self._settings.cgroup)
        try:
            if readiness.mount_tracefs():
                _tracefs_mark(self._settings).touch()
            events.open()
        except OSError as error:
            _log.warning("no kernel event for listen(), readiness is polled: %s", error)
        return events

    async def _stay_connected(self, runtime: Runtime) -> None:
        while True:
            await self._launcher_lost.wait()
            try:
                runtime.connect_launcher()
                self._launcher_lost.clear()
                _log.info("connected to the launcher")
            except OSError:
                await asyncio.sleep(LAUNCHER_RETRY_S)

    def _serve_metrics(self, cache: CMCache) -> None:
        metrics.observe_cache(cache)
        host, port = host_port(self._settings.agent_metrics)
        try:
            start_http_server(port, host)
        except OSError as error:
            _log.error("metrics are not served at %s: %s", self._settings.agent_metrics, error)


def main(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Raises BlockingIOError if another one runs here."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    with _alone(settings):
        asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Daemon(settings).run(stop)


def clean(settings: Settings) -> list[str]:
    """Ends every container of ours and removes what agents and launchers left. Returns the names of the lives that it ended.

    Only when neither runs: an agent would take it for a mass death."""
    if not Path(settings.run_dir).is_dir():
        return []
    with _alone(settings):
        ended = asyncio.run(_clean(settings))
        with suppress(OSError):
            readiness.remove_instance(settings.cgroup)
        if _tracefs_mark(settings).exists():
            with suppress(OSError):  # busy: another installation's agent uses it by now
                readiness.unmount_tracefs()
        _remove_files(settings)
    return ended


async def _clean(settings: Settings) -> list[str]:
    runtime = Runtime(_config(settings))
    await runtime.start()
    journal = Journal(Path(settings.run_dir) / "journal")
    ended = []
    for record in journal.open():
        init = record.app.spec.init
        if container := await runtime.adopt(record.slot, record.pid, record.start_time, init=init):
            container.ask_to_stop(init=init)
            await _await_end(container)
            await runtime.destroy(container)
            ended.append(record.life)
    journal.close()
    await runtime.remove_all()
    await runtime.close()
    clear_stages(Path(settings.run_dir))
    return ended


async def _await_end(container: Container) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    pidfd = container.program.pidfd if container.program else container.pidfd
    loop.add_reader(pidfd, ended.set)
    with suppress(TimeoutError):
        async with asyncio.timeout(CLEAN_GRACE_S):
            await ended.wait()
    loop.remove_reader(pidfd)


def _checkpoints(settings: Settings) -> Path:
    return Path(settings.state_dir) / "checkpoints"


def _remove_files(settings: Settings) -> None:
    shutil.rmtree(_checkpoints(settings), ignore_errors=True)
    run_dir = Path(settings.run_dir)
    ours = (settings.agent_socket, settings.launcher_socket, run_dir / "journal", run_dir / "agent.lock")
    for path in (*ours, _tracefs_mark(settings)):
        Path(path).unlink(missing_ok=True)
    for directory in (run_dir / "slots", run_dir / "stage"):
        if directory.is_dir():
            directory.rmdir()
