"""A whole installation of our own for the time of one run: etcd, launcher, agent, userproxy, with sites that sleep.

In a temporary directory, with ports, a network, a run directory and control groups that no other installation has. Leaving it, in
whatever way, ends and removes everything.
"""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil
from msgspec import structs

from bench.coldstart import bundle
from bench.coldstart.theirs import free_port
from bench.coldstart.visit import is_open
from dispatcher.cmdb.cache import CMCache
from dispatcher.cmdb.client import EtcdStore
from dispatcher.compute import daemon
from dispatcher.coreapi import service
from dispatcher.domain import AppSpec, Mount, Policy, Start
from dispatcher.quickstart import programs
from dispatcher.settings import Settings, host_port

APP = "bench"
FROZEN_APP, FROZEN_IDLE_S = "bench-frozen", 0.3
NETWORKS = [f"100.98.{third}.0/22" for third in range(0, 256, 4)]
START_S = 30.0
END_S = 5.0
QUIET_S = 0.03  # so long must our processes do next to nothing before a round begins
QUIET_SHARE = 0.05
QUIET_S_MAX = 10.0


class Installation:
    """`settings` of the running pieces; `site` is the directory that all `apps` serve. `proxy`: with a userproxy. `launcher`: a
    command to which socket and stage are added, in place of the usual one."""

    def __init__(
        self, directory: Path, apps: Sequence[str] = (APP,), *, proxy: bool = True, launcher: Sequence[str] = ()
    ) -> None:
        self.site = directory / "site"
        self.apps = apps
        self.has_proxy = proxy
        self.launcher = launcher
        self.words: Mapping[str, str] = {}  # of each app: cpu, memory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._directory = directory
        ports = [f"127.0.0.1:{free_port()}" for _ in range(6)]
        self.settings = Settings(
            compute="bench",
            etcd=(ports[0],),
            run_dir=str(directory / "run"),
            state_dir=str(directory / "state"),
            image_dir=str(directory / "roots"),
            log_dir=str(directory / "log"),
            userproxy_listen=ports[1],
            userproxy_metrics=ports[2],
            agent_metrics=ports[3],
            webdispatcher_listen=ports[4],
            webdispatcher_metrics=ports[5],
            network=_free_network(),
            cgroup=f"fastcontainer-bench-{os.getpid()}",
        )

    @property
    def proxy_address(self) -> tuple[str, int]:
        return host_port(self.settings.userproxy_listen)

    def log(self, name: str) -> str:
        return (self._directory / "log" / f"{name}.log").read_text(errors="replace")

    def start(self, page: bytes) -> None:
        """Raises RuntimeError with the log of whatever did not start."""
        settings = self.settings
        for directory in (self.site, programs.etcd_dir(settings), Path(settings.log_dir), Path(settings.run_dir)):
            directory.mkdir(parents=True)
        (self.site / "index.html").write_bytes(page)
        programs.config_path(settings).write_text(programs.config_text(settings))
        self._start("etcd", programs.etcd_command(settings))
        self.wait_until(lambda: is_open(host_port(settings.etcd[0])), "etcd")
        asyncio.run(self._create_apps())
        places = (settings.launcher_socket, f"{settings.run_dir}/stage")
        self._start("launcher", (*self.launcher, *places) if self.launcher else (script("fastcontainer"), "launcher"))
        self._start("agent", (script("fastcontainer"), "agent"))
        self.wait_until(lambda: Path(settings.agent_socket).exists(), "agent")
        if self.has_proxy:
            self._start("userproxy", (script("fastcontainer-userproxy"),))
            self.wait_until(lambda: is_open(self.proxy_address), "userproxy")

    async def _create_apps(self) -> None:
        store = EtcdStore(self.settings)
        cache = CMCache(store)  # it tries until etcd lets it in
        await cache.start(START_S)
        for app in self.apps:
            await service.create_app(
                store, app, self.spec(app), domains=[domain_of(app)], words=self.words, compute=self.settings.compute
            )
        await cache.close()
        await store.close()

    def spec(self, app: str) -> AppSpec:
        spec = AppSpec(
            command=bundle.httpd("80", bundle.CONTENT),
            mounts=(Mount(str(self.site), bundle.CONTENT, readonly=True),),
            policy=Policy(server_timing=True, idle_s=3600.0),
        )
        if app == FROZEN_APP:
            return structs.replace(spec, policy=Policy(start=Start.FROZEN, idle_s=FROZEN_IDLE_S))
        return spec

    def environment(self) -> dict[str, str]:
        return {**os.environ, "FASTCONTAINER_CONFIG": str(programs.config_path(self.settings))}

    def _start(self, name: str, command: tuple[str, ...]) -> None:
        with (self._directory / "log" / f"{name}.log").open("wb") as log:
            # A session of its own: Ctrl-C is for this bench, which ends what it started in order.
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                start_new_session=True,
            )

    def wait_until(self, is_so: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + START_S
        while not is_so():
            if self.processes[name].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n{self.log(name)[-2000:]}")
            time.sleep(0.01)

    def settle(self) -> None:
        """Until blanks are made, what was stopped is removed and rows are written: nobody works any more."""
        deadline = time.monotonic() + QUIET_S_MAX
        before, began = self._cpu_s(), time.perf_counter()
        while time.monotonic() < deadline:
            time.sleep(QUIET_S)
            self._check_alive()
            now, ended = self._cpu_s(), time.perf_counter()
            if now - before < QUIET_SHARE * (ended - began) and self.slots() >= self.settings.blanks:
                return
            before, began = now, ended
        raise TimeoutError(f"the installation was not quiet within {QUIET_S_MAX:g} s:\n{self.log('agent')[-2000:]}")

    def _check_alive(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{self.log(name)[-2000:]}")

    def _cpu_s(self) -> float:
        """Of agent, launcher, userproxy and etcd so far, by the scheduler's own count in nanoseconds."""
        files = (
            file
            for process in self.processes.values()
            for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat")
        )
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9

    def slots(self) -> int:
        """In use, by containers and by the reserve."""
        return sum(1 for _ in Path(self.settings.run_dir, "slots").iterdir())

    def stop(self) -> None:
        try:
            for name in ("userproxy", "agent", "launcher"):
                self._end(name)
            daemon.clean(self.settings)
        finally:
            self._end("etcd")

    def _end(self, name: str) -> None:
        process = self.processes.get(name)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_network() -> str:
    """One that no other installation holds: benches may be several at once."""
    held = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return secrets.choice([each for each in NETWORKS if str(next(IPv4Network(each).hosts())) not in held])


def domain_of(app: str) -> str:
    return f"{app}.localhost"


def script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@contextmanager
def installed(
    page: bytes,
    apps: Sequence[str] = (APP,),
    *,
    proxy: bool = True,
    launcher: Sequence[str] = (),
    make: type[Installation] = Installation,
) -> Iterator[tuple[Installation, Path]]:
    """And a directory for what the others need. Exits where this is not root."""
    if os.geteuid() != 0:
        sys.exit("this bench needs root: it makes namespaces, links and control groups")
    with ExitStack() as stack:
        stack.enter_context(terminable())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastcontainer-bench-")))
        directory.chmod(0o755)  # a container's user goes through it
        installation = make(directory, apps, proxy=proxy, launcher=launcher)
        stack.callback(_undisturbed, installation.stop)
        installation.start(page)
        yield installation, directory


@contextmanager
def terminable() -> Iterator[None]:
    """A kill by SIGTERM cleans up like Ctrl-C."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _undisturbed(stop: Callable[[], None]) -> None:
    """A second Ctrl-C would leave half of it behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        stop()
    finally:
        signal.signal(signal.SIGINT, before)
