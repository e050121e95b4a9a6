"""The agent's side of its socket: what is said to it, what it answers, who is inside, and the counts of what is in flight."""

import time
from collections.abc import Callable
from typing import Protocol

from dispatcher.compute.life import Life
from dispatcher.compute.lives import Lives
from dispatcher.compute.protocol import (
    Answer,
    Attach,
    Done,
    Door,
    Ensure,
    Enter,
    FromAgent,
    Live,
    Responses,
    Start,
    Stop,
    Synced,
    ToAgent,
    Traffic,
)
from dispatcher.compute.server import Peer, Server
from dispatcher.domain import Cause, Status
from dispatcher.problems import Code, Problem
from dispatcher.settings import Settings
from dispatcher.tasks import Tasks

DETAIL_MAX = 200  # characters of what a proxy says woke it, which is kept in the CMDB

Waiter = Callable[[Life | Problem], None]


class Host(Protocol):
    """Who decides about lives."""

    lives: Lives

    def ensure(self, app_name: str, id: str, cause: Cause, detail: str, waiter: Waiter) -> None: ...

    def is_used(self, life: Life, cause: Cause, detail: str) -> None:
        """One that is frozen, or about to be."""


class Reception:
    def __init__(self, settings: Settings, host: Host, tasks: Tasks) -> None:
        self._compute = settings.compute
        self._host = host
        self._tasks = tasks
        self._server = Server(settings.agent_socket, settings.proxy_user, self._said, self._left)

    async def start(self) -> None:
        await self._server.start()

    async def close(self) -> None:
        await self._server.close()

    @property
    def proxies(self) -> set[int]:
        return {peer.number for peer in self._server.proxies}

    @property
    def proxy_uids(self) -> set[int]:
        return self._server.proxy_uids

    def publish(self, message: FromAgent) -> None:
        self._server.publish(message)

    def publish_life(self, life: Life) -> None:
        if life.status is not Status.STARTING:  # nobody sends a request there: why wake the proxies while it boots
            self._server.publish(_live(life))

    # ---- what is said

    def _said(self, peer: Peer, message: ToAgent) -> None:
        match message:
            case Attach():
                for life in self._host.lives:
                    if life.status is not Status.STARTING:
                        peer.send(_live(life))
                peer.send(Synced(self._compute))
            case Traffic(in_flight, heard):
                self._count(peer, in_flight, heard)
            case Responses(of):
                for name, digest in of.items():
                    if measured := self._host.lives.by_name(name):
                        measured.responses.append(digest)
            case Ensure(id, app, container, _, cause, detail):
                self._host.ensure(app, container, cause, detail[:DETAIL_MAX], _answer_to(peer, id))
            case Start(id, app, container):
                self._host.ensure(app, container, Cause.MANUAL, "", _done_to(peer, id))
            case Stop(id, app, container, now):
                self._tasks.start(self._stop(peer, id, app, container, now=now), name=f"stop {app}")
            case Enter(id, app, container):
                self._open_door(peer, id, app, container)

    def _left(self, peer: Peer) -> None:
        now = time.monotonic()
        for life in list(self._host.lives):
            if life.counts.pop(peer.number, 0) or peer.number in life.visitors:
                life.quiet_since = now
            life.visitors.discard(peer.number)
            self._host.lives.confirm(life, peer.number)

    def _count(self, peer: Peer, in_flight: dict[str, int], heard: int | None) -> None:
        for name, count in in_flight.items():
            life = self._host.lives.by_name(name)
            if life is None:
                continue
            if count:
                life.counts[peer.number] = count
            else:
                life.counts.pop(peer.number, None)
            # Told of a count, it was in use until now, whatever the count is.
            life.quiet_since = time.monotonic()
            if count and life.status is Status.FROZEN:
                self._host.is_used(life, Cause.REQUEST, "it crossed the word that it was to be frozen")
            elif heard == life.turn:
                self._host.lives.confirm(life, peer.number)
            else:
                self._host.lives.check(life, time.monotonic())

    async def _stop(self, peer: Peer, id: int, app: str, container: str, *, now: bool) -> None:
        lives = self._named(app, container)
        for life in lives:
            self._host.lives.drain(life, "stopped by hand", cut_after_s=0.0 if now else None)
        for life in lives:
            await life.ended.wait()
        peer.send(Done(id, tuple(life.name for life in lives)))

    def _open_door(self, peer: Peer, id: int, app: str, container: str) -> None:
        lives = self._named(app, container)
        if frozen := [life for life in lives if life.status is Status.FROZEN]:
            self._host.is_used(frozen[0], Cause.MANUAL, "somebody looks inside")
        life = next((life for life in lives if life.status is Status.RUNNING), None)
        if life is None or life.handle is None or life.app.uid is None:
            what = f"{app}/{container}" if container else app
            hint = f"wake it first: fastcontainer start {app}"
            peer.refuse(id, Problem(Code.UNKNOWN_CONTAINER, f"no container of {what} runs on this host", hint=hint))
            return
        cgroups = tuple(str(directory) for directory in life.handle.group.directories())
        spec = life.app.spec
        life.visitors.add(peer.number)  # for as long as the peer stays connected
        peer.send(Door(id, life.name, life.handle.pid, cgroups, life.app.uid, spec.workdir, dict(spec.env)))

    def _named(self, app: str, container: str) -> list[Life]:
        """All of the app's if `container` is empty."""
        return [life for life in self._host.lives.of(app).values() if not container or life.id == container]


def _live(life: Life) -> Live:
    return Live(life.app.name, life.id, life.generation, life.status, life.address, life.concurrency, life.turn)


def _answer_to(peer: Peer, id: int) -> Waiter:
    def answer(result: Life | Problem) -> None:
        if isinstance(result, Problem):
            peer.refuse(id, result)
        else:
            peer.send(Answer(id, _live(result), result.phases))

    return answer


def _done_to(peer: Peer, id: int) -> Waiter:
    def answer(result: Life | Problem) -> None:
        if isinstance(result, Problem):
            peer.refuse(id, result)
        else:
            peer.send(Done(id, (result.name,)))

    return answer
