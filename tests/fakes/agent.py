"""An agent on a real Unix socket that speaks dispatcher.compute.protocol and "starts" loopback servers.

agent = FakeAgent(path, compute="here")
agent.site("blog", handler, start_s=0.05)      # handler(reader, writer) is the program in the container
await agent.start()
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from msgspec import structs

from dispatcher.compute import protocol
from dispatcher.compute.protocol import Answer, Attach, Digest, Ensure, Gone, Live, Refused, Responses, Synced, Traffic
from dispatcher.domain import Status
from dispatcher.problems import Problem
from dispatcher.tasks import Tasks

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Site:
    app: str
    handler: Handler
    start_s: float = 0.0
    concurrency: int = 32
    backlog: int = 100
    refuse: Problem | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)  # starting waits for it
    starts: int = 0
    generations: dict[str, int] = field(default_factory=dict)
    servers: dict[str, asyncio.Server] = field(default_factory=dict)


class FakeAgent:
    def __init__(self, path: str, compute: str = "here") -> None:
        self.path = path
        self.compute = compute
        self.sites: dict[str, Site] = {}
        self.live: dict[tuple[str, str], Live] = {}
        self.ensures: list[Ensure] = []
        self.turns: dict[str, int] = {}  # by life
        self.heard: dict[str, int] = {}  # by life: the last turn that a proxy said to have heard of
        self.traffic: list[dict[str, int]] = []
        self.responses: dict[str, list[Digest]] = {}
        self.counts: dict[str, int] = {}
        self.attached: list[str] = []
        self.begun = asyncio.Event()  # some container runs
        self.reported = asyncio.Condition()
        self._flights: dict[tuple[str, str], asyncio.Task[Live]] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks = Tasks()
        self._server: asyncio.Server | None = None

    def site(self, app: str, handler: Handler, **options: object) -> Site:
        site = self.sites[app] = Site(app, handler, **options)  # type: ignore[arg-type]
        site.gate.set()
        return site

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=protocol.LINE_BYTES_MAX)

    async def stop(self) -> None:
        """The agent dies; containers go on."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._tasks.close()

    async def close(self) -> None:
        await self.stop()
        for site in self.sites.values():
            for server in site.servers.values():
                server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                await self._take(protocol.decode_to_agent(line), writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _take(self, message: protocol.ToAgent, writer: asyncio.StreamWriter) -> None:
        match message:
            case Attach():
                self.attached.append(message.name)
                self._writers.add(writer)
                for live in self.live.values():
                    writer.write(protocol.encode(live))
                writer.write(protocol.encode(Synced(self.compute)))
            case Ensure():
                self.ensures.append(message)
                self._tasks.start(self._ensure(message, writer), name="ensure")
            case Traffic():
                self.traffic.append(message.in_flight)
                self.counts.update(message.in_flight)
                if message.heard is not None:
                    self.heard |= dict.fromkeys(message.in_flight, message.heard)
            case Responses(of):
                for life, digest in of.items():
                    self.responses.setdefault(life, []).append(digest)
        async with self.reported:
            self.reported.notify_all()

    async def _ensure(self, message: Ensure, writer: asyncio.StreamWriter) -> None:
        key = message.app, message.container
        live = self.live.get(key)
        phases: dict[str, float] = {}
        try:
            if live is not None and live.status is Status.FROZEN:
                live = self.thaw(*key)
                phases = {"thaw": 0.5}
            if live is None or live.status is not Status.RUNNING:
                if key not in self._flights:
                    task = self._flights[key] = self._tasks.start(self.run(*key), name=f"start {key}")
                    task.add_done_callback(lambda _: self._flights.pop(key))
                async with asyncio.timeout(message.wait_s):
                    live = await asyncio.shield(self._flights[key])
                phases = {"exec": 1.5, "listen": self.sites[message.app].start_s * 1000}
            answer: Answer | Refused = Answer(message.id, live, phases)
        except Problem as problem:
            answer = Refused(message.id, problem.code, problem.message, problem.hint, problem.retry_after_s)
        writer.write(protocol.encode(answer))

    async def run(self, app: str, container: str = "1") -> Live:
        """Start a container, whoever asked."""
        site = self.sites[app]
        site.starts += 1
        generation = site.generations[container] = site.generations.get(container, 0) + 1
        self._tell(Live(app, container, generation, Status.STARTING, "", site.concurrency))
        await site.gate.wait()
        if site.start_s:
            await asyncio.sleep(site.start_s)
        if site.refuse is not None:
            self.live.pop((app, container))
            self.push(Gone(app, container, generation, site.refuse.message))
            raise site.refuse
        listener = socket.create_server(("127.0.0.1", 0), backlog=site.backlog)
        site.servers[container] = await asyncio.start_server(site.handler, sock=listener, backlog=site.backlog)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        live = Live(app, container, generation, Status.RUNNING, address, site.concurrency)
        self._tell(live)
        self.begun.set()
        return live

    def drain(self, app: str, container: str = "1") -> None:
        self._let_go(app, container, Status.DRAINING)

    def freeze(self, app: str, container: str = "1") -> None:
        """Its server would still answer: that it is not asked is for a test to see."""
        self._let_go(app, container, Status.FROZEN)

    def _let_go(self, app: str, container: str, status: Status) -> None:
        live = self.live[app, container]
        self.turns[live.life] = turn = self.turns.get(live.life, 0) + 1
        self._tell(structs.replace(live, status=status, turn=turn))

    def thaw(self, app: str, container: str = "1") -> Live:
        live = structs.replace(self.live[app, container], status=Status.RUNNING)
        self._tell(live)
        return live

    def kill(self, app: str, container: str = "1", *, tell: bool = True) -> None:
        """Its listening socket closes; with tell=False nobody has noticed yet."""
        self.sites[app].servers.pop(container).close()
        live = self.live.pop((app, container))
        if tell:
            self.push(Gone(app, container, live.generation, "killed"))

    def _tell(self, live: Live) -> None:
        self.live[live.app, live.container] = live
        self.push(live)

    def push(self, message: Live | Gone) -> None:
        for writer in self._writers:
            with contextlib.suppress(ConnectionError):
                writer.write(protocol.encode(message))

    async def until(self, condition: Callable[[], bool], *, within_s: float = 5.0) -> None:
        async with asyncio.timeout(within_s), self.reported:
            await self.reported.wait_for(condition)
