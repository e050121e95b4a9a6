"""What is compared: a site in a container and seven ways to it, all running at once, of which one is measured at a time."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from msgspec import structs

from bench.coldstart import bundle
from bench.coldstart.installation import APP, END_S, Installation, domain_of, installed
from bench.coldstart.ours import Asker
from bench.coldstart.theirs import free_port
from bench.coldstart.visit import PATIENCE_S, Address, is_open, visit
from bench.throughput import texts
from bench.throughput.load import Target
from dispatcher.compute.protocol import Answer, Ensure
from dispatcher.domain import AppSpec
from dispatcher.settings import Settings, host_port
from dispatcher.userlb.config import COLD, Pool
from dispatcher.userlb.haproxy import Runtime

ROOT = Path(__file__).parents[2]
START_S = 30.0
PAGE = b"<!doctype html><title>bench</title><p>" + b"A small page that does not change. " * 20

BACKEND, HAPROXY, LANE, NGINX = "bare backend", "bare HAProxy", "warm lane", "nginx"
MITMDUMP, SCRIPT, LEAN = "stock mitmdump", "UserProxy by mitmdump -s", "UserProxy"
TWO_HOPS = "UserProxy + Web Dispatcher"


@dataclass(frozen=True)
class Row:
    name: str
    target: Target
    processes: tuple[psutil.Process, ...] = ()  # of the proxies in between
    is_fast: bool = False  # takes some thousand requests a second

    def cpu_s(self) -> float:
        """utime + stime of its proxies so far, whatever runs below them included."""
        times = [
            each.cpu_times()
            for process in self.processes
            for each in (process, *process.children(recursive=True))
        ]  # fmt: skip
        return sum(time.user + time.system for time in times)


class Site(Installation):
    """One whose containers run nginx."""

    def spec(self, app: str) -> AppSpec:
        spec = super().spec(app)
        command = ("/usr/sbin/nginx", "-p", "/tmp", "-e", "stderr", "-c", f"{bundle.CONTENT}/nginx.conf")
        # Server-Timing is the proxies' alone: a site that asks for it has no lane.
        return structs.replace(spec, command=command, policy=structs.replace(spec.policy, server_timing=False))


@contextmanager
def rows() -> Iterator[list[Row]]:
    with installed(PAGE, make=Site) as (installation, directory), ExitStack() as stack:
        (installation.site / "nginx.conf").write_text(texts.nginx_site(bundle.CONTENT))
        backend = _wake(installation.settings)
        starter = _Starter(installation, directory)
        stack.callback(starter.stop)
        yield starter.rows(backend)


def _wake(settings: Settings) -> Address:
    agent = Asker(settings.agent_socket)
    try:
        answer = agent.ask(Ensure(1, APP, "1", PATIENCE_S))
    finally:
        agent.close()
    if not isinstance(answer, Answer):
        raise RuntimeError(f"the agent did not start the site: {answer}")
    return host_port(answer.live.address)


class _Starter:
    def __init__(self, installation: Installation, directory: Path) -> None:
        self._installation = installation
        self._directory = directory
        self._stack = ExitStack()
        self._programs: dict[str, subprocess.Popen[bytes]] = {}

    def rows(self, backend: Address) -> list[Row]:
        name = f"{backend[0]}:{backend[1]}"
        settings = self._installation.settings
        lean = self._installation.processes["userproxy"]
        return [
            self._row(BACKEND, backend, is_fast=True),
            self._haproxy(name),
            self._lane(settings),
            self._nginx(name),
            self._mitmdump(name),
            self._script(),
            self._row(LEAN, host_port(settings.userproxy_listen), lean.pid),
            self._two_hops(settings),
        ]

    def _row(self, name: str, address: Address, *pids: int, is_fast: bool = False) -> Row:
        target = Target(address, domain_of(APP), PAGE)
        self._until_open(name, address)
        visit(address, target.host, PAGE)
        return Row(name, target, tuple(map(psutil.Process, pids)), is_fast)

    def _haproxy(self, backend: str) -> Row:
        address, directory = _free(), self._place("haproxy")
        pool = texts.plain_pool(str(directory), f"{address[0]}:{address[1]}", backend)
        path = Path(pool.configuration)
        path.write_text(texts.haproxy(pool))
        for name in (*pool.maps, *pool.front_maps, pool.challenges):
            Path(name).touch()
        log = self._stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        log.bind(pool.log_socket)
        threading.Thread(target=_read_and_forget, args=(log,), name="log", daemon=True).start()
        pid = self._start("haproxy", ("haproxy", "-db", "-f", str(path)))
        return self._row(HAPROXY, address, pid, is_fast=True)

    def _lane(self, settings: Settings) -> Row:
        address = _free()
        Path(settings.userlb_dir).mkdir()
        listen = {"USERLB_LISTEN": f"{address[0]}:{address[1]}"}
        pid = self._start("userlb", (_script("fastcontainer"), "userlb"), listen)
        self._until_open(LANE, address)
        self._until(lambda: _has_lane(settings), "a lane")
        return self._row(LANE, address, pid, is_fast=True)

    def _nginx(self, backend: str) -> Row:
        address, directory = _free(), self._place("nginx")
        path = directory / "nginx.conf"
        path.write_text(texts.nginx_proxy(str(directory), f"{address[0]}:{address[1]}", backend))
        return self._row(NGINX, address, self._start("nginx", ("nginx", "-c", str(path))), is_fast=True)

    def _mitmdump(self, backend: str) -> Row:
        address = _free()
        mode = f"reverse:http://{backend}@{address[0]}:{address[1]}"
        return self._row(MITMDUMP, address, self._start("mitmdump", (_script("mitmdump"), "--mode", mode)))

    def _script(self) -> Row:
        address = _free()
        return self._row(
            SCRIPT, address,
            self._start("script", (_script("mitmdump"), "-s", str(ROOT / "addons/userproxy.py")), self._userproxy(address)),
        )  # fmt: skip

    def _two_hops(self, settings: Settings) -> Row:
        address = _free()
        Path(settings.route_key_path).write_bytes(os.urandom(32).hex().encode())
        dispatcher = self._start("webdispatcher", (_script("fastcontainer-webdispatcher"),))
        self._until_open(TWO_HOPS, host_port(settings.webdispatcher_listen))
        far = {**self._userproxy(address), "SHORT_CUT": "false"}
        return self._row(TWO_HOPS, address, self._start("far", (_script("fastcontainer-userproxy"),), far), dispatcher)

    def _userproxy(self, address: Address) -> dict[str, str]:
        return {
            "USERPROXY_LISTEN": f"{address[0]}:{address[1]}",
            "USERPROXY_METRICS": f"127.0.0.1:{free_port()}",
        }

    def _place(self, name: str) -> Path:
        directory = self._directory / name
        directory.mkdir(mode=0o755)
        return directory

    def _start(self, name: str, command: Sequence[str], more: Mapping[str, str] | None = None) -> int:
        environment = self._installation.environment()
        if more:
            logs = self._place(f"log-{name}")
            environment |= {f"FASTCONTAINER_{key}": value for key, value in {**more, "LOG_DIR": str(logs)}.items()}
        with (self._directory / f"{name}.out").open("wb") as out:
            self._programs[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
            )
        return self._programs[name].pid

    def _until_open(self, name: str, address: Address) -> None:
        self._until(lambda: is_open(address), name)

    def _until(self, is_so: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + START_S
        while not is_so():
            ended = [name for name, process in self._programs.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                told = {name: (self._directory / f"{name}.out").read_text()[-1000:] for name in ended}
                raise RuntimeError(f"{name} did not start: {told}")
            time.sleep(0.02)

    def stop(self) -> None:
        """SIGINT for the UserLB, which otherwise leaves its HAProxy behind."""
        for name, process in reversed(self._programs.items()):
            if name == "userlb":
                process.send_signal(signal.SIGINT)
            else:
                process.terminate()
        for process in self._programs.values():
            try:
                process.wait(3 * END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._stack.close()


def _has_lane(settings: Settings) -> bool:
    routes = asyncio.run(Runtime(Pool((), (), (), settings.userlb_dir)).read()).routes
    return routes.get(domain_of(APP), COLD) != COLD


def _read_and_forget(log: socket.socket) -> None:
    """Its log has a reader, as that of the lanes has."""
    with contextlib.suppress(OSError):
        while log.recv(8192):
            pass


def _free() -> Address:
    return "127.0.0.1", free_port()


def _script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))
