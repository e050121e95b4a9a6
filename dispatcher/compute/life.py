"""One life as its agent holds it, and who is told what happens to it."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from containerlib.handle import Container
from containerlib.spec import ContainerSpec
from dispatcher.compute import logs, state
from dispatcher.compute.digest import KEPT
from dispatcher.compute.journal import Record
from dispatcher.compute.protocol import Digest
from dispatcher.compute.roots import Root
from dispatcher.compute.strategy import Choice
from dispatcher.domain import App, Cause, Start, Status, life_name

COLD = Choice(Start.COLD)


@dataclass(slots=True)
class Draining:
    reason: str
    cut_at: float | None  # monotonic; None: what is in flight is never cut


@dataclass(slots=True, eq=False)
class Life:
    app: App
    id: str
    generation: int
    cause: Cause
    detail: str
    started: float  # Unix time
    expires: float  # Unix time
    quiet_since: float  # monotonic; meaningless while something is in flight
    begins: Choice = COLD  # or from an image, where there is one
    status: Status = Status.REGISTERED
    handle: Container | None = None
    definition: ContainerSpec | None = None
    root: Root | None = None  # where it is not the host's own /usr
    concurrency: int = 32
    counts: dict[int, int] = field(default_factory=dict)  # in flight, by proxy
    visitors: set[int] = field(default_factory=set)  # peers with somebody inside (fastcontainer exec)
    turn: int = 0  # how often it was to get no further request
    awaited: set[int] = field(default_factory=set)  # proxies that have not yet confirmed that they send nothing more
    ack_by: float = 0.0  # monotonic; those that have not by then are taken at their last word
    draining: Draining | None = None
    freezing: asyncio.Task[None] | None = None
    is_frozen: bool = False  # all of it has stopped; with status frozen and without this it is about to
    kept_bytes: int = 0  # of memory, while it is frozen
    frozen_for: str = ""  # why `auto` chose that
    stopping: bool = False
    successor: str = ""
    outdated: str = ""  # why there is to be one
    leaving: bool = False  # its row goes with it: it is not counted
    followed: bool = False  # it was executed, and its end will be noticed
    log: logs.LifeLog | None = None
    phases: dict[str, float] = field(default_factory=dict)
    problem: str = ""  # why it failed
    exit_status: int | None = None  # as a shell has it, once it has ended
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    starting: asyncio.Task[None] | None = None
    running_since: float = 0.0  # monotonic
    responses: deque[Digest] = field(default_factory=lambda: deque(maxlen=KEPT))  # in its lane, newest last
    ready: float = 0.0  # Unix time
    unheard_until: float = 0.0  # monotonic; the proxies of a former agent may still come and tell their counts

    @property
    def name(self) -> str:
        return life_name(self.app.name, self.id, self.generation)

    @property
    def address(self) -> str:
        """Where it listens; empty until it does."""
        listens = self.status in (Status.RUNNING, Status.FROZEN, Status.DRAINING)
        return f"{self.handle.address}:{self.app.spec.port}" if self.handle and listens else ""

    @property
    def image(self) -> str:
        """NAME@VERSION of its root; empty where that is the host's own /usr."""
        return self.root.name if self.root else ""

    @property
    def in_flight(self) -> int:
        return sum(self.counts.values())

    @property
    def is_leaving(self) -> bool:
        return self.leaving or bool(self.successor)

    def is_let_go(self, now: float) -> bool:
        """Nobody sends it anything, and nothing is in flight."""
        return (not self.awaited or now >= self.ack_by) and not self.in_flight

    def move(self, event: state.Event) -> None:
        self.status = state.after(self.status, event)

    def record(self, *, gone: bool = False) -> Record:
        handle = self.handle
        assert handle is not None
        return Record(
            self.app, self.id, self.generation, self.status, self.cause, handle.slot, handle.pid, handle.start_time,
            self.started, self.expires, self.concurrency, handle.etc_image, gone, self.image, self.ready,
        )  # fmt: skip


class Listener(Protocol):
    def proxies(self) -> set[int]:
        """Who is attached now."""

    def life_changed(self, life: Life) -> None: ...

    def not_imaged(self, life: Life, kind: str, why: str) -> None:
        """An image of it could not be taken, or be restored; `kind` of event."""

    def not_frozen(self, life: Life, why: str) -> None:
        """It was to be frozen, and the kernel did not do it."""

    def life_ended(self, life: Life, *, expected: bool) -> None: ...

    def tell(self, life: Life, kind: str, message: str) -> None:
        """For the app's history."""
