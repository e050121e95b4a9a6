"""A whole installation in a directory, a network and a cgroup of its own, started by what ./quickstart starts it with.

installation    module-scoped; a module may set SETTINGS = {"short_cut": False} for its own

After the module it is brought down, and whatever is left then is a failure: processes, mounts, network namespaces, links,
addresses, cgroups, trace instances, files.
"""

import asyncio
import contextlib
import inspect
import ipaddress
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from supervisor.xmlrpc import SupervisorTransport

from containerlib.firewall import table_name
from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.client import EtcdStore
from dispatcher.compute import protocol
from dispatcher.compute.protocol import Live
from dispatcher.coreapi import service, views
from dispatcher.domain import AppSpec, ContainerRow, EventRow, Mount, Policy, Status
from dispatcher.quickstart.programs import MARK, config_text, control_socket
from dispatcher.settings import Settings
from tests.fakes.clients import Response, ask
from tests.fakes.ports import free_port

BIN = Path(sys.executable).parent
SITE = Path(__file__).parents[1] / "acceptance" / "site"
PROGRAMS = ("etcd", "launcher", "agent", "webdispatcher", "userproxy")
POLL_S = 0.02
AGENT_S = 15.0  # in which an agent that was killed is back
OWN_FILES = frozenset(
    f"file {name}"
    for name in (
        "agent.lock",
        "agent.sock", "fastcontainer.toml", "journal", "launcher.sock", "route.key", "slots", "stage", "supervisor",
        "tracefs-mounted",
    )
)  # fmt: skip


async def wait_for[T](condition: Callable[[], T | Awaitable[T]], within_s: float, what: str = "") -> T:
    """The first true answer of `condition`, which may be a coroutine function."""
    deadline = time.monotonic() + within_s
    while True:
        answer = condition()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s:g} s: {what or inspect.getsource(condition).strip()} (last: {value!r})")
        await asyncio.sleep(POLL_S)


class Installation:
    def __init__(self, base: Path, network: str, changed: Mapping[str, Any]) -> None:
        self.base = base
        front = f"127.0.0.1:{free_port()}" if os.environ.get("BEHIND_USERLB") else "off"
        names = (
            "userproxy_listen",
            "webdispatcher_listen",
            "userproxy_metrics",
            "webdispatcher_metrics",
            "agent_metrics",
            "userlb_metrics",
        )
        self.settings = Settings(
            compute="here",
            etcd=(f"127.0.0.1:{free_port()}",),
            run_dir=str(base / "run"),
            state_dir=str(base / "state"),
            log_dir=str(base / "log"),
            network=network,
            cgroup=f"fc-{base.name[-8:].lower()}",
            **{"userlb_listen": front, **{name: f"127.0.0.1:{free_port()}" for name in names}, **changed},
        )
        front = self.settings.userproxy_listen if self.settings.userlb_listen == "off" else self.settings.userlb_listen
        self.port = int(front.rpartition(":")[2])
        config = base / "settings.toml"
        config.write_text(config_text(self.settings))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FASTCONTAINER_")}
        self.environment = clean | {"FASTCONTAINER_CONFIG": str(config), "PATH": f"{BIN}:{os.environ['PATH']}"}

    # ---- up and down

    def quickstart(self, *words: str) -> str:
        command = [sys.executable, "-m", "dispatcher.quickstart.main", *words]
        # Into a file: a pipe would end only with the last process that inherited it.
        output = self.base / "quickstart.out"
        with output.open("wb") as file:
            done = subprocess.run(
                command, env=self.environment, cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=100,
            )  # fmt: skip
        text = output.read_text()
        assert done.returncode == 0, f"quickstart {' '.join(words)}: {text}\n{self.logs()}"
        return text

    def logs(self) -> str:
        """The end of each program's log, for the message of a failed test."""
        parts = []
        for path in sorted((self.base / "log").glob("*.log")):
            if not path.name.startswith("access"):
                parts += [f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-25:]]
        return "\n".join(parts)

    def tracebacks(self) -> list[str]:
        """A program of ours that logs one has a fault, whatever the clients noticed."""
        found = []
        for path in sorted((self.base / "log").glob("*.log*")):
            text = path.read_text(errors="replace")
            found += [
                f"{path.name}: {text[at : at + 3000]}" for at in (m.start() for m in re.finditer("Traceback", text))
            ]
        return found

    # ---- its programs

    def _supervisor(self, method: str, *arguments: object) -> Any:
        transport = SupervisorTransport(serverurl=f"unix://{control_socket(self.settings)}")
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        finally:
            proxy("close")()

    def pid(self, program: str) -> int:
        """0 while it is not up."""
        info = self._supervisor("getProcessInfo", program)
        return int(info["pid"]) if info["statename"] in ("RUNNING", "STARTING") else 0

    def kill(self, program: str, number: signal.Signals = signal.SIGKILL) -> int:
        pid = self.pid(program)
        assert pid, f"{program} is not up"  # 0 would be all of us
        os.kill(pid, number)
        return pid

    async def restarted(self, program: str, killed: int, within_s: float = 10.0) -> int:
        def other() -> int:
            pid = self.pid(program)
            return pid if pid != killed else 0

        return await wait_for(other, within_s, f"{program} is started again")

    def stop_program(self, program: str) -> None:
        self._supervisor("stopProcess", program, False)

    def start_program(self, program: str) -> None:
        self._supervisor("startProcess", program, False)  # does not wait: the load goes on

    # ---- what people do with it

    @asynccontextmanager
    async def store(self) -> AsyncIterator[EtcdStore]:
        store = EtcdStore(self.settings)
        try:
            yield store
        finally:
            await store.close()

    async def create(
        self,
        name: str,
        *command: str,
        words: Mapping[str, str] | None = None,
        mounts: tuple[Mount, ...] = (),
        domains: tuple[str, ...] | None = None,
        **policy: Any,
    ) -> None:
        """By default the site of tests/acceptance/site; `policy` may also hold fields of the spec itself."""
        own = {field: policy.pop(field) for field in ("port", "pids", "init", "env", "host_ports") if field in policy}
        spec = AppSpec(
            command=command or ("python3", "-SI", "/srv/site.py"),
            mounts=(Mount(str(SITE), "/srv", readonly=True), *mounts),
            policy=Policy(**{"idle_s": 300.0, **policy}),
            **own,
        )
        async with self.store() as store:
            chosen = (f"{name}.localhost",) if domains is None else domains
            await service.create_app(store, name, spec, domains=chosen, words=words, compute="here")
        await self.known(name)

    async def known(self, name: str) -> None:
        """Until the UserProxy's CMCache has it: a watch away, some milliseconds."""

        async def answers() -> bool:
            return (await ask(self.port, f"{name}.localhost", "/", user_agent="uptime-probe monitor")).status != 404

        await wait_for(answers, 5.0, f"{name} is known to the proxy")

    async def edit(self, name: str, **changes: Any) -> None:
        async with self.store() as store:
            await service.edit_app(store, name, **changes)

    async def remove(self, name: str) -> None:
        async with self.store() as store:
            await service.remove_app(store, name)

    async def ask(self, app: str, path: str = "/", method: str = "GET", **fields: str) -> Response:
        return await ask(self.port, f"{app}.localhost", path, method, **fields)

    async def wake(self, app: str, path: str = "/") -> Live:
        """The one container of it that runs now."""
        response = await self.ask(app, path)
        assert response.status == 200, response.raw
        (live,) = await self.running(app)
        return live

    def cli(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "fastcontainer"), *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done

    def cli_json(self, *words: str) -> Any:
        return json.loads(self.cli(*words, "--json").stdout)

    def etcdctl(self, *words: str) -> str:
        command = ["etcdctl", "--endpoints", self.settings.etcd[0], *words]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    # ---- what there is

    async def rows(self, app: str) -> dict[str, ContainerRow]:
        async with self.store() as store:
            found = await store.list(keys.containers_prefix(app))
        ids = {key: key.rpartition("/")[2] for key, _ in found}
        return {ids[key]: codec.decode_container(app, ids[key], value.value) for key, value in found}

    async def events(self, app: str, kind: str = "") -> list[EventRow]:
        async with self.store() as store:
            found = await views.list_events(store, app)
        return [event for _, event in found if not kind or event.kind == kind]

    async def lives(self, app: str = "") -> dict[str, Live]:
        """The agent's truth, by name of the life; waits for an agent that is being started."""
        found = await wait_for(self._told_by_agent, AGENT_S, "an agent answers")
        return {live.life: live for live in found if isinstance(live, Live) and (not app or live.app == app)}

    async def _told_by_agent(self) -> list[protocol.FromAgent]:
        """Empty when it went away before it had told all."""
        told: list[protocol.FromAgent] = []
        try:
            reader, writer = await asyncio.open_unix_connection(self.settings.agent_socket, limit=1 << 20)
        except OSError:
            return []
        try:
            writer.write(protocol.encode(protocol.Attach("test")))
            while not told or isinstance(told[-1], Live):
                told.append(protocol.decode_from_agent(await reader.readline()))
        except (msgspec.DecodeError, ConnectionError):
            return []
        finally:
            writer.close()
            with contextlib.suppress(OSError):  # gone for the agent, too: it waits for the word of whoever is attached
                await writer.wait_closed()
        return told

    async def running(self, app: str) -> list[Live]:
        return [live for live in (await self.lives(app)).values() if live.status is Status.RUNNING]

    async def asleep(self, app: str, within_s: float) -> None:
        async def gone() -> bool:
            return not await self.lives(app)

        await wait_for(gone, within_s, f"{app} sleeps")

    def cgroups(self, slot: int | str | None = None) -> list[Path]:
        tops = {Path(top) for top, _, _ in os.walk("/sys/fs/cgroup") if top.endswith(f"/{self.settings.cgroup}")}
        return sorted(tops if slot is None else (top / str(slot) for top in tops))

    def slots(self) -> dict[str, list[int]]:
        """Processes by slot, for every slot that has a cgroup."""
        found: dict[str, set[int]] = {}
        for top in self.cgroups():
            for entry in top.iterdir():
                if entry.is_dir():
                    pids = found.setdefault(entry.name, set())
                    try:
                        pids.update(map(int, (entry / "cgroup.procs").read_text().split()))
                    except OSError:
                        continue
        return {slot: sorted(pids) for slot, pids in found.items()}

    def slot_of(self, live: Live) -> str:
        first, _, third, fourth = self.settings.network.partition("/")[0].split(".")
        a, b, c, d = live.address.partition(":")[0].split(".")
        return str((int(c) - int(third)) * 256 + int(d) - int(fourth)) if first == a and b else ""

    def pids_of(self, live: Live) -> list[int]:
        return self.slots().get(self.slot_of(live), [])

    def _is_blank(self, pids: list[int]) -> bool:
        return len(pids) == 1 and f"launcher.py\0{self.settings.launcher_socket}" in _command(pids[0])

    def traces(self) -> frozenset[str]:
        """Everything that containers consist of; of the reserve of blanks nothing."""
        slots = self.slots()
        reserve = {slot for slot, pids in slots.items() if self._is_blank(pids)}
        found = {
            f"process {pid} {_command(pid)}" for slot, pids in slots.items() if slot not in reserve for pid in pids
        }
        found |= {f"cgroup {slot}" for slot in slots if slot not in reserve}
        found |= {f"namespace {_namespace(pid)}" for slot, pids in slots.items() if slot not in reserve for pid in pids}
        found |= {f"link {name}" for name, slot in self._links().items() if slot not in reserve}
        found |= {f"mount {line}" for line in self._mounts()}
        run = Path(self.settings.run_dir)
        files = (path.relative_to(run) for path in run.rglob("*"))
        return frozenset(
            found
            | {
                f"file {path}"
                for path in files
                if path.parts[0] not in ("supervisor", "userlb")
                and not (path.parts[0] == "slots" and path.parts[1:2] and path.parts[1] in reserve)
            }
        )  # fmt: skip

    def descriptors(self) -> dict[str, int]:
        """How many each program has open. Without those that the agent holds for blanks in reserve (a process, two logs, a control
        socket, a window into its network namespace, which that would keep alive)."""
        counts = {program: len(os.listdir(f"/proc/{self.pid(program)}/fd")) for program in PROGRAMS}  # noqa: PTH208
        counts["agent"] -= 5 * sum(self._is_blank(pids) for pids in self.slots().values())
        return counts

    async def nothing_left(self, within_s: float) -> None:
        """Of any container; the programs and the reserve of blanks are there."""
        deadline = time.monotonic() + within_s
        while left := sorted(self.traces() - OWN_FILES):
            if time.monotonic() > deadline:
                pytest.fail(f"left after {within_s:g} s:\n  " + "\n  ".join(left) + f"\n{await self.lives()}")
            await asyncio.sleep(POLL_S)

    def _links(self) -> dict[str, str]:
        first, second, third, _ = (int(part) for part in self.settings.network.partition("/")[0].split("."))
        base = (first << 24) + (second << 16) + (third << 8)
        names = (path.name for path in Path("/sys/class/net").iterdir())
        numbers = {name: int(name[2:], 16) - base for name in names if re.fullmatch("fc[0-9a-f]{8}", name)}
        return {name: str(number) for name, number in numbers.items() if 0 <= number < 1 << 10}

    def _mounts(self) -> list[str]:
        return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.base) in line]

    def remains(self) -> list[str]:
        """After `down`."""
        host = _host_of(self.settings.network)
        found = [f"link {name}" for name in self._links()] + [f"mount {line}" for line in self._mounts()]
        found += [f"cgroup {path}" for path in self.cgroups()]
        found += [f"address {host}"] if any(
            address.address == host for addresses in psutil.net_if_addrs().values() for address in addresses
        ) else []  # fmt: skip
        found += [f"route {line}" for line in _routes() if line.split()[1] == _hexadecimal(self.settings.network)]
        table = table_name(ipaddress.IPv4Network(self.settings.network))
        tables = subprocess.check_output(["nft", "list", "tables"], text=True)
        found += [f"nft table {table}"] if table in tables else []
        found += [f"trace instance {path}" for path in Path("/sys/kernel/tracing/instances").glob(self.settings.cgroup)]
        found += [
            f"file {path}" for path in self.base.iterdir() if path.name not in ("settings.toml", "quickstart.out")
        ]
        for process in psutil.process_iter():
            try:
                environment = process.environ().get(MARK)
                if environment == self.settings.run_dir or any(str(self.base) in word for word in process.cmdline()):
                    found.append(f"process {process.pid} {process.cmdline()}")
            except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                continue
        return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _namespace(pid: int | str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")  # noqa: PTH115 - not a path, a name
    except OSError:
        return ""


def _routes() -> list[str]:
    return Path("/proc/net/route").read_text().splitlines()[1:]


def _hexadecimal(network: str) -> str:
    return "".join(f"{int(byte):02X}" for byte in reversed(network.partition("/")[0].split(".")))


def _host_of(network: str) -> str:
    return network.partition("/")[0].removesuffix(".0") + ".1"


def _free_network() -> str:
    """A /22 of shared address space that no other installation holds: test runs may be several at once."""
    held = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    networks = [f"100.99.{third}.0/22" for third in range(0, 256, 4)]
    return secrets.choice([network for network in networks if _host_of(network) not in held])


@pytest.fixture(scope="module")
def installation(request: pytest.FixtureRequest) -> Iterator[Installation]:
    # Not below pytest's own directory, which no other user may enter.
    base = Path(tempfile.mkdtemp(prefix="fastcontainer-test-"))
    base.chmod(0o755)
    whole = Installation(base, _free_network(), getattr(request.module, "SETTINGS", {}))
    try:
        whole.quickstart("up", "--detach")
        yield whole
        tracebacks = whole.tracebacks()
        whole.quickstart("down", "--purge")
        remains = _settled(whole.remains)
    finally:
        if (base / "run").exists():
            subprocess.run(
                [sys.executable, "-m", "dispatcher.quickstart.main", "down"], env=whole.environment, timeout=100, check=False
            )  # fmt: skip
        if not os.environ.get("KEEP_INSTALLATION"):
            shutil.rmtree(base, ignore_errors=True)
    assert not remains, "left behind after down:\n  " + "\n  ".join(remains)
    assert not tracebacks, "in the logs:\n" + "\n".join(tracebacks)


def _settled(check: Callable[[], list[str]], patience_s: float = 5.0) -> list[str]:
    deadline = time.monotonic() + patience_s
    while (found := check()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
