"""Thousands of names on HAProxy's lanes while their sites come, go, die and change names, with every answer checked for its site.

    .venv/bin/python -m tests.chaos.soak [--seconds 300]

A real etcd, a real HAProxy, a real controller in a process of its own. The agent is a fake and the sites are small servers of this
process that know whose they are; so is what stands in the UserProxy's place. An address is given to the next site the moment that
its drained container was let go, and a while after one that died, as a Compute does it, whose addresses go round.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from dispatcher.cmdb import keys
from dispatcher.cmdb.client import EtcdStore
from dispatcher.cmdb.store import Delete, Put
from dispatcher.compute.protocol import Gone, Live
from dispatcher.domain import AppSpec, Status
from dispatcher.quickstart.programs import config_text
from dispatcher.settings import Settings, host_port
from dispatcher.tasks import Tasks
from dispatcher.userlb.config import COLD, Pool
from dispatcher.userlb.haproxy import Runtime
from dispatcher.userlb.lanes import Actual, under
from tests.fakes.agent import FakeAgent
from tests.fakes.clients import Connection
from tests.fakes.ports import free_port
from tests.plugins.etcd import EtcdServer

APPS, NAMES, WILDCARDS, WARM, LANES = 1000, 10_000, 400, 300, 200
COMES_OR_GOES_S, NAME_CHANGES_S, VISITS_S = 10.0, 5.0, 300.0  # so many a second
VISITORS = 24
GRACE_S = 2.0  # a name may lead to whom it led before for so long
LET_GO_S = 10.0
SPEC = msgspec.json.encode(AppSpec(command=("/bin/true",)))


class Server:
    """A life: it says whose it is, and dies with all that it was doing."""

    def __init__(self, app: str) -> None:
        self.app = app
        self.writers: set[asyncio.StreamWriter] = set()

    async def start(self, address: str) -> None:
        self.server = await asyncio.start_server(self._serve, *host_port(address))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if b" /slow" in head:
                await asyncio.sleep(0.3)
            body = self.answer(head)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    def answer(self, head: bytes) -> bytes:
        return self.app.encode()

    def die(self) -> None:
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()


@dataclass
class Soak:
    settings: Settings
    store: EtcdStore
    rng: random.Random
    owners: dict[str, list[tuple[float, str]]] = field(default_factory=dict)  # by name: since when whose; "": nobody's
    servers: dict[str, Server] = field(default_factory=dict)  # by app
    addresses: deque[str] = field(default_factory=deque)
    wrong: list[str] = field(default_factory=list)
    visits: int = 0
    in_lanes: int = 0
    came: int = 0
    drained: int = 0
    died: int = 0
    renamed: int = 0
    stopping: bool = False

    def __post_init__(self) -> None:
        self.agent = FakeAgent(self.settings.agent_socket)
        self.runtime = Runtime(Pool((), (), (), self.settings.userlb_dir))
        self.proxy = _Proxy(self)
        self.generations: dict[str, int] = {}
        self.tasks = Tasks()

    # ---- the CMDB

    async def fill(self) -> None:
        names = [f"n{number}.{number % 97}.test" for number in range(NAMES - 2 * WILDCARDS)]
        for number in range(WILDCARDS):
            names += [f"*.w{number}.test", f"in.w{number}.test"]
        for name in names:
            self.owners[name] = [(0.0, self._any_app())]
        pairs = [(keys.spec_key(f"app{number}"), SPEC) for number in range(APPS)]
        pairs += [(keys.domain_key(name), owned[-1][1].encode()) for name, owned in self.owners.items()]
        for first in range(0, len(pairs), 120):
            await self.store.commit([], [Put(key, value) for key, value in pairs[first : first + 120]])

    def _any_app(self) -> str:
        return f"app{self.rng.randrange(APPS)}"

    async def rename(self) -> None:
        """A name changes hands, goes, or comes back. What it becomes may be true from before the CMDB has it."""
        name = self.rng.choice(list(self.owners))
        app = self._any_app() if self.rng.random() < 0.8 else ""
        self.owners[name].append((time.monotonic(), app))
        await self.store.commit(
            [], [Put(keys.domain_key(name), app.encode()) if app else Delete(keys.domain_key(name))]
        )
        self.owners[name].append((time.monotonic(), app))
        self.renamed += 1

    def names(self) -> dict[str, str]:
        return {name: owned[-1][1] for name, owned in self.owners.items() if owned[-1][1]}

    def allowed(self, host: str, since: float) -> set[str]:
        """Whose `host` was at any time since then; "" stands for nobody."""
        name = host if host in self.owners else f"*.{host.partition('.')[2]}"
        found = self._allowed(name, since)
        if "" in found and (above := f"*.{name.partition('.')[2]}") in self.owners:
            found |= self._allowed(above, since)
        return found

    def _allowed(self, name: str, since: float) -> set[str]:
        owned = self.owners[name]
        return {
            app for number, (_, app) in enumerate(owned) if number + 1 == len(owned) or owned[number + 1][0] >= since
        }

    # ---- sites that come and go

    async def come(self) -> None:
        app = self._any_app()
        if app in self.servers:
            return
        address = self.addresses.popleft()
        server = self.servers[app] = Server(app)
        await server.start(address)
        generation = self.generations[app] = self.generations.get(app, 0) + 1
        live = Live(app, "1", generation, Status.RUNNING, address, 8)
        self.agent.live[app, "1"] = live
        self.agent.push(live)
        self.came += 1

    async def go(self) -> None:
        app = self.rng.choice(list(self.servers))
        live = self.agent.live[app, "1"]
        if live.status is Status.RUNNING:
            if self.rng.random() < 0.3:
                self.die(app, live)
            else:
                await self.drain(app, live)

    def die(self, app: str, live: Live) -> None:
        self.servers.pop(app).die()
        del self.agent.live[app, "1"]
        self.agent.push(Gone(app, "1", live.generation, "killed"))
        self.addresses.append(live.address)
        self.died += 1

    async def drain(self, app: str, live: Live) -> None:
        self.agent.drain(app)
        turn = self.agent.turns[live.life]
        agent = self.agent
        await agent.until(
            lambda: agent.heard.get(live.life) == turn and not agent.counts.get(live.life), within_s=LET_GO_S
        )
        server = self.servers.pop(app)
        if server.writers:
            self.wrong.append(f"{live.life} was let go with {len(server.writers)} requests in it")
        server.die()
        del agent.live[app, "1"]
        agent.push(Gone(app, "1", live.generation, "drained"))
        self.addresses.appendleft(live.address)  # and is the next one's
        self.drained += 1

    # ---- visitors

    async def visit(self) -> None:
        connection: Connection | None = None
        while not self.stopping:
            host, path = self._host(), "/slow" if self.rng.random() < 0.05 else "/"
            sent = time.monotonic()
            try:
                connection = connection or await Connection.open(self.port)
                answer = await connection.ask(host, path)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.wrong.append(f"{host}: {error!r}")
                connection = None
                continue
            self.visits += 1
            via, _, app = answer.body.decode().rpartition(" ")
            self.in_lanes += not via
            if answer.status != 200 or app not in self.allowed(host, sent - GRACE_S):
                allowed = self.allowed(host, sent - GRACE_S)
                self.wrong.append(f"{host}: {answer.status} {answer.body[:60]!r}, it is {allowed}'s")
            await asyncio.sleep(max(0.0, sent + VISITORS / VISITS_S - time.monotonic()))
        if connection is not None:
            connection.close()

    def _host(self) -> str:
        name = self.rng.choice(self._popular if self._popular and self.rng.random() < 0.8 else list(self.owners))
        return name.replace("*", f"v{self.rng.randrange(9)}")

    async def look_around(self) -> None:
        """Which names have sites that are awake: most visitors go there."""
        while True:
            self._popular = [name for name, app in self.names().items() if app in self.servers]
            await asyncio.sleep(0.5)

    @property
    def port(self) -> int:
        return int(self.settings.userlb_listen.rpartition(":")[2])

    # ---- the run

    async def run(self, seconds: float) -> None:
        self._popular: list[str] = []
        for _ in range(2 * WARM):
            if len(self.servers) < WARM:
                await self.come()
        await self.settled(30.0)
        began = time.monotonic()
        self.tasks.start(self.look_around(), name="look around")
        visitors = [self.tasks.start(self.visit(), name=f"visitor {number}") for number in range(VISITORS)]
        turn = 0
        pending: set[asyncio.Task[None]] = set()
        while (now := time.monotonic()) < began + seconds:
            turn += 1
            act = self.come if len(self.servers) < WARM else self.go
            pending.add(self.tasks.start(act(), name=act.__name__))
            if turn % int(COMES_OR_GOES_S / NAME_CHANGES_S) == 0:
                pending.add(self.tasks.start(self.rename(), name="rename"))
            pending = {task for task in pending if not task.done() or task.result()}
            await asyncio.sleep(max(0.0, began + turn / COMES_OR_GOES_S - now))
        await asyncio.gather(*pending)
        self.stopping = True
        await asyncio.gather(*visitors)
        await self.settled(10.0)

    async def settled(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while faults := self.faults(await self.runtime.read()):
            if time.monotonic() > deadline:
                raise AssertionError("\n".join(faults[:20]))
            await asyncio.sleep(0.2)

    def faults(self, actual: Actual) -> list[str]:
        """In what HAProxy differs from the CMDB and from the sites that run."""
        names = self.names()
        lanes: dict[str, set[str]] = {}
        for name, lane in actual.routes.items():
            if lane != COLD:
                lanes.setdefault(lane, set()).add(name)
        found, of_app = [], {}
        for lane, routed in lanes.items():
            apps = {names.get(name, "nobody") for name in routed}
            if len(apps) != 1:
                found.append(f"{lane} has names of {apps}")
                continue
            (app,) = apps
            of_app[app] = lane
            if missing := {name for name, owner in names.items() if owner == app} - routed:
                found.append(f"{lane} of {app} lacks {missing}")
            slots = {slot.address for id, slot in actual.slots.items() if id.lane == lane and slot.is_open}
            live = self.agent.live.get((app, "1"))
            if live is None or slots != {live.address}:
                found.append(f"{lane} of {app} leads to {slots}, it is {live}")
        awake = {app for app in names.values() if app in self.servers}
        if len(lanes) != min(LANES, len(awake)):
            found.append(f"{len(lanes)} lanes lead somewhere, {len(awake)} sites with names are awake")
        routed = [name for name, lane in actual.routes.items() if lane != COLD and name.startswith("*.")]
        shadows = {name for wildcard in routed for name in under(wildcard, names) if names[name] not in of_app}
        cold = {name for name, lane in actual.routes.items() if lane == COLD}
        if shadows != cold:
            found.append(f"shadows too many: {cold - shadows}, too few: {shadows - cold}")
        open_elsewhere = {id.lane for id, slot in actual.slots.items() if slot.is_open} - {*lanes}
        if nameless := open_elsewhere - {"", *of_app.values()}:
            owners = {live.address: live.app for live in self.agent.live.values()}
            apps = {owners.get(s.address) for id, s in actual.slots.items() if id.lane in nameless and s.is_open}
            if apps & {*names.values(), None}:
                found.append(f"slots are open in lanes without names: {nameless}")
        return found


class _Proxy(Server):
    """In the UserProxy's place: every site through it, said by a word before the name."""

    def __init__(self, soak: Soak) -> None:
        super().__init__("proxy")
        self._soak = soak

    def answer(self, head: bytes) -> bytes:
        host = next(line[5:].strip() for line in head.decode().split("\r\n") if line.lower().startswith("host:"))
        names = self._soak.names()
        labels = host.split(".")
        above = (f"*.{'.'.join(labels[number:])}" for number in range(1, len(labels)))
        return f"proxy {names.get(host) or next((names[name] for name in above if name in names), '')}".encode()


async def soak(seconds: float, directory: Path, etcd: EtcdServer) -> dict[str, float]:
    settings = Settings(
        compute="here",
        etcd=(etcd.endpoint,),
        run_dir=str(directory),
        log_dir=str(directory),
        userlb_listen=f"127.0.0.1:{free_port()}",
        userproxy_listen=f"127.0.0.1:{free_port()}",
    )
    config = directory / "settings.toml"
    config.write_text(config_text(settings))
    store = EtcdStore(settings)
    run = Soak(settings, store, random.Random(1))
    net = random.SystemRandom().randrange(2, 250)  # of this run alone; ports would be taken by connections that go out
    run.addresses.extend(f"127.{net}.{number // 250}.{number % 250 + 1}:80" for number in range(2 * WARM))
    with (directory / "userlb.out").open("wb") as output:
        controller = None
        try:
            await run.fill()
            await run.proxy.start(settings.userproxy_listen)
            await run.agent.start()
            controller = await asyncio.create_subprocess_exec(
                str(Path(sys.executable).parent / "fastcontainer"), "userlb",
                env={**os.environ, "FASTCONTAINER_CONFIG": str(config)}, stdout=output, stderr=output,
            )  # fmt: skip
            await _serves(run)
            before, began = _cpu_s(controller.pid), time.monotonic()
            await run.run(seconds)
            passed = time.monotonic() - began
            memory = psutil.Process(controller.pid).memory_info().rss
            cpu = _cpu_s(controller.pid) - before
        finally:
            await run.tasks.close()
            if controller is not None:
                controller.send_signal(signal.SIGINT)
                await controller.wait()
            run.proxy.die()
            for server in run.servers.values():
                server.die()
            await run.agent.close()
            await store.close()
    if run.wrong:
        raise AssertionError(f"{len(run.wrong)} wrong: " + "\n".join(run.wrong[:20]))
    counts = {name: getattr(run, name) for name in ("visits", "in_lanes", "came", "drained", "died", "renamed")}
    return counts | {"seconds": passed, "controller_cpu_share": cpu / passed, "controller_rss_mb": memory / 1e6}


async def _serves(run: Soak) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            await run.runtime.info()
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the UserLB does not serve")


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="fc-soak-") as name:
        etcd = EtcdServer(Path(name, "etcd"))
        etcd.start()
        try:
            print(json.dumps(asyncio.run(soak(seconds, Path(name), etcd))))
        finally:
            etcd.kill()


if __name__ == "__main__":
    main()
