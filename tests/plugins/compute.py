"""Computes of tests' own: networks, control groups and directories that no other installation on this machine has.

    await host.app("blog", "busybox", "httpd", "-f", "-p", "80")
    live = await host.wake("blog")                     # asked as a proxy does
    host.kill_agent(); await host.start_agent()        # launcher and agent are processes

The agent is forked from a server that has imported it already: so a test can have one of its own, and kill it, in 0.1 s.
"""

import asyncio
import contextlib
import ipaddress
import itertools
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from containerlib import cgroups, launcher, readiness
from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.client import EtcdStore
from dispatcher.cmdb.events import read_events
from dispatcher.cmdb.store import Delete, Put
from dispatcher.compute import daemon, protocol
from dispatcher.compute.protocol import (
    Answer,
    Attach,
    Done,
    Door,
    Ensure,
    Enter,
    FromAgent,
    Gone,
    Live,
    Refused,
    Start,
    Stop,
    Synced,
    ToAgent,
    Traffic,
)
from dispatcher.coreapi import service
from dispatcher.domain import AppSpec, Cause, ContainerRow, EventRow, Mount, Policy, Status
from dispatcher.problems import Code
from dispatcher.settings import Settings
from tests.vm.machine import is_inside

if TYPE_CHECKING:  # pytest itself wants to be the first to import it
    from tests.plugins.etcd import EtcdServer

DEFAULT = Policy()
# Of limits of time that are short on purpose: emulated, everything takes that much longer, and more on a busy host.
PATIENCE = 10 if is_inside() else 1
LAUNCHER = (launcher.__file__,)
_processes = multiprocessing.get_context("forkserver")
HTTPD = ("busybox", "httpd", "-f", "-p", "80", "-h", "/srv")
PYTHON = ("/usr/bin/python3", "-SIuc")

_networks = itertools.count(os.getpid() * 7)


def free_network() -> str:
    """A /24 of shared address space (RFC 6598) above what settings.network and its neighbours take."""
    number = next(_networks) % (28 * 256)
    return f"100.{100 + number // 256}.{number % 256}.0/24"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(condition: Callable[[], object], *, within_s: float = 5.0, why: str = "") -> None:
    """Looks at each turn of the loop: what it waits for has no event of its own."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, why or "it did not come to pass"
        await asyncio.sleep(0.002)


def python(program: str) -> tuple[str, ...]:
    """A command that runs this in a container. `serve(port, address)` listens and answers whatever it is asked."""
    return (*PYTHON, PRELUDE + program)


PRELUDE = """
import os, signal, socket, sys, threading, time
def serve(port=80, address="0.0.0.0"):
    server = socket.create_server((address, port), backlog=64)
    while True:
        connection = server.accept()[0]
        threading.Thread(target=answer, args=(connection,), daemon=True).start()
def answer(connection):
    while request := connection.recv(65536):
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
        if b"HTTP/1.0" in request:
            return connection.close()
"""


class Proxy:
    """Speaks to the agent as a proxy does, and as root. `confirms`: answers each drain with its count, as the protocol wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, confirms: bool) -> None:
        self._reader, self._writer = reader, writer
        self.confirms = confirms
        self.heard: list[FromAgent] = []
        self.live: dict[tuple[str, str], Live] = {}
        self.counts: dict[str, int] = {}
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Answer | Refused | Done | Door]] = {}
        self._changed = asyncio.Condition()
        self._task = asyncio.get_running_loop().create_task(self._listen(), name="test proxy")

    @classmethod
    async def of(cls, path: str, name: str = "userproxy", *, confirms: bool = True) -> "Proxy":
        proxy = cls(*await asyncio.open_unix_connection(path, limit=1 << 20), confirms=confirms)
        proxy.say(Attach(name))
        await proxy.until(lambda: any(isinstance(each, Synced) for each in proxy.heard))
        return proxy

    def say(self, message: ToAgent) -> None:
        self._writer.write(protocol.encode(message))

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await self._reader.readline():
                self._take(protocol.decode_from_agent(line))
                async with self._changed:
                    self._changed.notify_all()
        for answer in self._answers.values():
            answer.cancel()

    def _take(self, message: FromAgent) -> None:
        self.heard.append(message)
        match message:
            case Live():
                self.live[message.app, message.container] = message
                if message.status in (Status.DRAINING, Status.FROZEN) and self.confirms:
                    self.confirm(message)
            case Gone():
                self.live.pop((message.app, message.container), None)
            case Answer() | Refused() | Done() | Door():
                if isinstance(message, Answer):
                    self.live[message.live.app, message.live.container] = message.live
                if answer := self._answers.pop(message.id, None):
                    answer.set_result(message)

    def traffic(self, life: str, count: int) -> None:
        self.counts[life] = count
        self.say(Traffic({life: count}))

    def confirm(self, live: Live) -> None:
        self.say(Traffic({live.life: self.counts.get(live.life, 0)}, live.turn))

    async def _ask(self, make: Callable[[int], ToAgent]) -> Answer | Refused | Done | Door:
        message = make(next(self._ids))
        answer: asyncio.Future[Answer | Refused | Done | Door] = asyncio.get_running_loop().create_future()
        self._answers[message.id] = answer  # type: ignore[union-attr]
        self.say(message)
        async with asyncio.timeout(40):
            return await answer

    async def ensure(self, app: str, container: str = "1", detail: str = "GET /") -> Answer | Refused:
        answer = await self._ask(lambda id: Ensure(id, app, container, 30.0, Cause.REQUEST, detail))
        assert isinstance(answer, Answer | Refused)
        return answer

    async def stop(self, app: str, container: str = "", *, now: bool = False) -> Done:
        answer = await self._ask(lambda id: Stop(id, app, container, now))
        assert isinstance(answer, Done)
        return answer

    async def start(self, app: str, container: str = "") -> Done | Refused:
        answer = await self._ask(lambda id: Start(id, app, container))
        assert isinstance(answer, Done | Refused)
        return answer

    async def door(self, app: str, container: str = "") -> Door:
        answer = await self._ask(lambda id: Enter(id, app, container))
        assert isinstance(answer, Door), answer
        return answer

    async def until(self, condition: Callable[[], object], *, within_s: float = 15.0) -> None:
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(lambda: bool(condition()))

    async def until_status(self, app: str, container: str, status: Status | None, *, within_s: float = 15.0) -> None:
        """None: it is gone."""

        def is_so() -> bool:
            live = self.live.get((app, container))
            return live is None if status is None else live is not None and live.status is status

        await self.until(is_so, within_s=within_s)

    async def close(self) -> None:
        self._writer.close()
        await self._task


def run_agent(settings: Settings, log: Path) -> None:
    _log_to(log)
    daemon.main(settings)


def _clean(settings: Settings, log: Path) -> None:
    _log_to(log)
    daemon.clean(settings)


def _log_to(log: Path) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(fd, number)
    os.close(fd)


class Host:
    """One Compute: a launcher, an agent, and what a test asks of them."""

    def __init__(self, directory: Path, images: Path, endpoint: str, launch: tuple[str, ...]) -> None:
        """`launch`: the launcher's program, and words for it beyond the usual two. A test may replace it, and `run_agent`."""
        directory.chmod(0o755)
        self.directory = directory
        self.launch = launch
        self.run_agent: Callable[[Settings, Path], None] = run_agent
        self.content = directory / "content"
        self.content.mkdir()
        self.log = directory / "agent.log"
        (directory / "state").mkdir()
        (directory / "state/images").symlink_to(images)
        self.settings = Settings(
            compute="here",
            etcd=(endpoint,),
            run_dir=str(directory / "run"),
            state_dir=str(directory / "state"),
            log_dir=str(directory / "log"),
            image_dir=str(directory / "roots"),
            definition_dir=str(directory / "definitions"),
            agent_metrics=f"127.0.0.1:{_free_port()}",
            proxy_user="nobody",
            network=free_network(),
            cgroup=f"fctest-{directory.name}",
            blanks=2,
        )
        self.store = EtcdStore(self.settings)
        self.agent: BaseProcess | None = None
        self.launcher: subprocess.Popen[bytes] | None = None
        self._proxy: Proxy | None = None
        self._attaching = asyncio.Lock()
        (directory / "run").mkdir(mode=0o755)

    # ---- processes

    async def start(self) -> None:
        self.start_launcher()
        # An agent that is there first refuses what is asked of it meanwhile.
        await until(lambda: Path(self.settings.launcher_socket).exists(), within_s=15 * PATIENCE, why="no launcher")
        await self.start_agent()

    def start_launcher(self) -> None:
        command = [
            sys.executable,
            "-SI",
            self.launch[0],
            self.settings.launcher_socket,
            f"{self.settings.run_dir}/stage",
            *self.launch[1:],
        ]
        with (self.directory / "launcher.log").open("ab") as log:
            self.launcher = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill_launcher(self) -> None:
        assert self.launcher is not None
        self.launcher.kill()
        self.launcher.wait()
        self.launcher = None

    async def start_agent(self) -> None:
        self.agent = _processes.Process(target=self.run_agent, args=(self.settings, self.log))
        self.agent.start()
        with contextlib.suppress(FileNotFoundError):
            while True:  # a killed one's socket is there, and answers nobody
                await asyncio.sleep(0.005)
                with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
                    _, writer = await asyncio.open_unix_connection(self.settings.agent_socket)
                    writer.close()
                    return
                assert self.agent.is_alive(), self.log.read_text()

    async def start_second_agent(self) -> None:
        """Beside the one that runs."""
        process = _processes.Process(target=run_agent, args=(self.settings, self.log))
        process.start()
        await asyncio.to_thread(process.join, 10)
        code = process.exitcode
        process.kill()
        process.close()
        assert code == 0, self.log.read_text()

    def kill_agent(self, number: signal.Signals = signal.SIGKILL) -> None:
        assert self.agent is not None and self.agent.pid is not None
        os.kill(self.agent.pid, number)
        self.agent.join(15)
        assert not self.agent.is_alive()
        self.agent.close()
        self.agent = None

    async def clean(self) -> None:
        """`fastcontainer agent --clean`."""
        process = _processes.Process(target=_clean, args=(self.settings, self.log))
        process.start()
        await asyncio.to_thread(process.join, 30)
        code = process.exitcode
        process.close()
        assert code == 0, self.log.read_text()

    async def close(self) -> None:
        await self.detach()
        if self.agent is not None:
            self.kill_agent(signal.SIGTERM)
        if self.launcher is not None:
            self.kill_launcher()
        await self.store.close()
        await self.clean()

    # ---- asking the agent

    async def proxy(self) -> Proxy:
        """One that confirms; connected anew after the agent's death."""
        async with self._attaching:
            if self._proxy is None:
                self._proxy = await Proxy.of(self.settings.agent_socket)
            return self._proxy

    async def detach(self) -> None:
        if self._proxy is not None:
            await self._proxy.close()
            self._proxy = None

    async def ensure(self, app: str, container: str = "1") -> Answer | Refused:
        """Once the agent has heard of the app."""
        proxy = await self.proxy()
        deadline = time.monotonic() + 10
        while True:
            answer = await proxy.ensure(app, container)
            if isinstance(answer, Answer) or answer.code is not Code.UNKNOWN_APP or time.monotonic() > deadline:
                return answer
            await asyncio.sleep(0.01)

    async def known(self, app: str) -> None:
        """The agent has heard of it, and of everything before: what is told in order, it is told last."""
        await self.app(f"{app}-known", words={"switch": "off"})
        assert (await self.refused(f"{app}-known")).code is Code.SWITCHED_OFF

    async def wake(self, app: str, container: str = "1") -> Live:
        answer = await self.ensure(app, container)
        assert isinstance(answer, Answer), f"{answer}\n{self.log.read_text()}"
        return answer.live

    async def until_answer(self, app: str) -> Live:
        """What made it refuse was taken away a moment ago."""
        deadline = time.monotonic() + 5
        while not isinstance(answer := await self.ensure(app), Answer):
            assert time.monotonic() < deadline, answer
            await asyncio.sleep(0.02)
        return answer.live

    async def refused(self, app: str) -> Refused:
        answer = await self.ensure(app)
        assert isinstance(answer, Refused), answer
        return answer

    # ---- the CMDB

    async def app(
        self, name: str, *command: str, words: dict[str, str] | None = None, policy: Policy = DEFAULT, **spec: Any
    ) -> None:
        spec.setdefault("mounts", (Mount(str(self.content), "/srv", readonly=True),))
        made = AppSpec(command=command or HTTPD, policy=policy, **spec)
        await service.create_app(self.store, name, made, words=words, compute="here")

    async def word(self, app: str, field: str, value: str | None) -> None:
        """As `etcdctl put` does it."""
        key = keys.word_key(app, field)
        await self.store.commit([], [Delete(key) if value is None else Put(key, value.encode())])

    async def word_raw(self, app: str, name: str, value: str) -> None:
        await self.store.commit([], [Put(f"{keys.app_prefix(app)}{name}", value.encode())])

    async def edit(self, name: str, **changed: Any) -> None:
        await service.edit_app(self.store, name, change=lambda spec: msgspec.structs.replace(spec, **changed))

    async def row(self, app: str, container: str = "1") -> ContainerRow | None:
        found = await self.store.get(keys.container_key(app, container))
        return codec.decode_container(app, container, found.value) if found else None

    async def rows(self, app: str) -> dict[str, ContainerRow]:
        found = await self.store.list(keys.containers_prefix(app))
        return {(id := key.rpartition("/")[2]): codec.decode_container(app, id, value.value) for key, value in found}

    async def until_rows(
        self, app: str, condition: Callable[[dict[str, ContainerRow]], object], within_s: float = 15
    ) -> None:
        deadline = time.monotonic() + within_s
        while not condition(rows := await self.rows(app)):
            assert time.monotonic() < deadline, f"{rows}\n{self.log.read_text()}"
            await asyncio.sleep(0.02)

    async def event(self, app: str, kind: str, *, within_s: float = 10) -> EventRow:
        """The newest of its kind, once there is one."""
        deadline = time.monotonic() + within_s
        while not (found := [row for row in await read_events(self.store, app) if row.kind == kind]):
            assert time.monotonic() < deadline, f"no event {kind} of {app}\n{self.log.read_text()}"
            await asyncio.sleep(0.02)
        return found[-1]

    async def events(self, app: str) -> list[EventRow]:
        return await read_events(self.store, app)

    # ---- the kernel

    def cgroup(self, live: Live, controller: str, name: str) -> str:
        tree = cgroups.find(self.settings.cgroup)
        base = tree.bases.get(controller) or tree.bases[""]
        return (base / str(self.slot(live)) / name).read_text().strip()

    def cpu_limit(self, live: Live) -> str:
        """Micro-seconds in each 100 ms; -1 or max: none."""
        if cgroups.find(self.settings.cgroup).version == 1:
            return self.cgroup(live, "cpu", "cpu.cfs_quota_us")
        return self.cgroup(live, "cpu", "cpu.max").split()[0]

    def cpu_limits(self) -> set[str]:
        """Of all groups of this host, blanks included."""
        tree = cgroups.find(self.settings.cgroup)
        name = "cpu.cfs_quota_us" if tree.version == 1 else "cpu.max"
        base = tree.bases.get("cpu") or tree.bases[""]
        return {path.read_text().split()[0] for path in base.glob(f"*/{name}")}

    def memory_limit(self, live: Live) -> str:
        version = cgroups.find(self.settings.cgroup).version
        return self.cgroup(live, "memory", "memory.limit_in_bytes" if version == 1 else "memory.max")

    def slot(self, live: Live) -> int:
        address = ipaddress.IPv4Address(live.address.partition(":")[0])
        return int(address) - int(ipaddress.IPv4Network(self.settings.network).network_address)

    async def processes(self, app: str, container: str = "") -> list[int]:
        """Of a container, as this host numbers them; PID 1 first."""
        door = await (await self.proxy()).door(app, container)
        return _numbers(Path(door.cgroups[0], "cgroup.procs"))

    def lines(self, app: str, container: str = "1", generation: int = 1) -> list[str]:
        """What a life wrote: `out text` or `err text`."""
        path = Path(self.settings.log_dir, "lives", app, f"{container}.{generation}.log")
        return [line.partition(" ")[2] for line in path.read_text().splitlines()] if path.exists() else []

    async def until_line(self, app: str, line: str, *, generation: int = 1, within_s: float = 10) -> None:
        await until(lambda: line in self.lines(app, generation=generation), within_s=within_s, why=f"no line {line!r}")


def _numbers(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()]


async def fetch(address: str, path: str = "/", *, timeout_s: float = 10.0) -> bytes:
    """The whole answer, head and all; an empty one if the connection ended before."""
    host, _, port = address.partition(":")
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: test\r\n\r\n".encode())
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture(scope="session")
def _agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The server that agents are forked from, tracefs, and where images of /etc are shared."""
    _processes.set_forkserver_preload([__name__])
    first = _processes.Process(target=os.getpid)  # starts the server
    first.start()
    first.join()
    first.close()
    mounted = readiness.mount_tracefs()
    yield tmp_path_factory.mktemp("images")
    if mounted:
        with contextlib.suppress(OSError):  # an installation outside of these tests uses it by now
            readiness.unmount_tracefs()


@pytest.fixture
async def host(_agents: Path, etcd: "EtcdServer") -> AsyncIterator[Host]:
    """Launcher and agent, on a CMDB that the tests share."""
    async with _host(_agents, etcd.endpoint) as host:
        yield host


@pytest.fixture
def new_host(_agents: Path, etcd: "EtcdServer") -> Callable[..., contextlib.AbstractAsyncContextManager[Host]]:
    """Several in one test, and with another launcher: `async with new_host(PROGRAM, WORD ...) as host`."""
    return lambda *launch: _host(_agents, etcd.endpoint, launch)


@pytest.fixture
async def own_etcd_host(
    _agents: Path, new_etcd: "Callable[[], EtcdServer]"
) -> "AsyncIterator[tuple[Host, EtcdServer]]":
    """With a CMDB of their own, which the test may stop."""
    server = new_etcd()
    async with _host(_agents, server.endpoint) as host:
        yield host, server


@contextlib.asynccontextmanager
async def _host(images: Path, endpoint: str, launch: tuple[str, ...] = LAUNCHER) -> AsyncIterator[Host]:
    # A Unix socket's path is at most 107 bytes long, so not in tmp_path.
    host = Host(Path(tempfile.mkdtemp(prefix="fc-")), images, endpoint, launch)
    try:
        await host.start()
        try:
            yield host
        finally:
            await host.close()
    finally:
        if "-v" in sys.argv:
            print(host.log.read_text() if host.log.exists() else "(no log)")
        shutil.rmtree(host.directory)
