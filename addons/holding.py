"""Requests that wait for a container: first come first served, bounded, released as the containers can take them.

    grant = await holding.acquire(app, key=client, deadline=now + 30, detail="GET blog.example.com/")
    ... dial grant.backend ...
    holding.answered(app.name, grant.backend)        # its response has begun, or it failed: the next one may go

A container is given `concurrency` requests that it has not begun to answer; downloads, event streams and WebSockets do not count.
An app has state here only while requests of it wait or are unanswered, or a start is under way.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from addons import routing
from addons.routing import Backend
from dispatcher.domain import App
from dispatcher.problems import Code, Problem
from dispatcher.tasks import Tasks

FUTILE_STARTS_MAX = 3  # starts that succeed, with the container dead before it got a single request


class Grant(NamedTuple):
    backend: Backend
    waited_s: float = 0.0
    woke: bool = False  # it waited for a start
    phases: Mapping[str, float] = {}  # of that start, in milliseconds; filled in a moment after the push


class Containers(Protocol):
    def running(self, app: App) -> Sequence[Backend]:
        """Those that may get a request now."""

    def to_wake(self, app: App, wanted: str) -> Backend | str | None:
        """A container here to be started, a Web Dispatcher that will see to it, or None if there is nobody to ask."""

    async def start(self, app: App, container: str, detail: str) -> Mapping[str, float]:
        """Returns the phases when it runs; raises Problem."""


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


@dataclass(slots=True, eq=False)
class _Waiter:
    future: asyncio.Future[Grant]
    since: float
    detail: str
    wanted: str
    phases: dict[str, float] | None = None  # of the start that it waits for


@dataclass(slots=True)
class _State:
    app: App
    waiting: dict[_Waiter, None] = field(default_factory=dict)  # in order of arrival
    unanswered: dict[str, int] = field(default_factory=dict)  # by Backend.key
    flight: asyncio.Task[None] | None = None
    phases: dict[str, float] = field(default_factory=dict)  # of the start under way
    futile: int = 0


class Holding:
    def __init__(
        self,
        containers: Containers,
        *,
        held_max: int,
        in_flight: dict[str, int],
        rng: routing.Chance,
        clock: Callable[[], float],
    ) -> None:
        self.held = 0
        self._containers = containers
        self._held_max = held_max
        self._in_flight = in_flight
        self._rng = rng
        self._clock = clock
        self._apps: dict[str, _State] = {}
        self._by_key: dict[str, _Waiter] = {}
        self._tasks = Tasks()

    async def close(self) -> None:
        await self._tasks.close()

    def held_of(self, app: str) -> int:
        state = self._apps.get(app)
        return len(state.waiting) if state else 0

    def is_starting(self, app: str) -> bool:
        state = self._apps.get(app)
        return state is not None and state.flight is not None

    def acquire_at_once(self, app: App) -> Grant | None:
        """None: it has to wait, or somebody to be woken."""
        state = self._apps.get(app.name)
        if state is None:
            state = self._apps[app.name] = _State(app)
        state.app = app
        backend = None if state.waiting else self._take(state)
        self._tidy(state)
        return None if backend is None else Grant(backend)

    async def acquire(self, app: App, *, key: str, deadline: float, detail: str, wanted: str = "") -> Grant:
        """Raises Problem, or ClientLeft after `leave(key)`."""
        state = self._apps.get(app.name)
        if state is None:
            state = self._apps[app.name] = _State(app)
        state.app = app
        try:
            if not state.waiting and (backend := self._take(state)) is not None:
                return Grant(backend)
            if state.flight is None and not self._containers.running(app):
                choice = self._containers.to_wake(app, wanted)
                if isinstance(choice, Backend):
                    self._check_bounds(state, state.unanswered.get(choice.key, 0))
                    return Grant(self._count(state, choice))
            self._check_bounds(state, len(state.waiting))
            return await self._wait(state, key, deadline, detail, wanted)
        finally:
            self._tidy(state)

    async def _wait(self, state: _State, key: str, deadline: float, detail: str, wanted: str) -> Grant:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop.create_future(), self._clock(), detail, wanted)
        state.waiting[waiter] = None
        self._by_key[key] = waiter
        self.held += 1
        try:
            self._pump(state)
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                return await waiter.future
        except TimeoutError:
            self._give_back(state, waiter)
            if self._containers.running(state.app):
                raise Problem(Code.DEADLINE, f"{state.app.name} has been busy all the time") from None
            raise Problem(Code.START_TIMEOUT, f"{state.app.name} did not start in time", retry_after_s=10) from None
        except BaseException:
            self._give_back(state, waiter)
            raise
        finally:
            self.held -= 1
            state.waiting.pop(waiter, None)
            self._by_key.pop(key, None)

    def _give_back(self, state: _State, waiter: _Waiter) -> None:
        """A grant that came in the same moment in which the wait ended."""
        if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
            self.answered(state.app.name, waiter.future.result().backend)

    def leave(self, key: str) -> None:
        """The client is gone: its place is free."""
        waiter = self._by_key.get(key)
        if waiter is not None and not waiter.future.done():
            waiter.future.set_exception(ClientLeft())

    def answered(self, app: str, backend: Backend) -> None:
        state = self._apps.get(app)
        if state is None or backend.key not in state.unanswered:
            return
        state.unanswered[backend.key] -= 1
        if not state.unanswered[backend.key]:
            del state.unanswered[backend.key]
        self.changed(app)

    def changed(self, app: str) -> None:
        """Containers of the app came, went or became free."""
        if (state := self._apps.get(app)) is not None:
            self._pump(state)
            self._tidy(state)

    def _check_bounds(self, state: _State, held_of_app: int) -> None:
        if held_of_app >= state.app.spec.policy.queue_max:
            raise Problem(Code.QUEUE_FULL, f"{held_of_app} requests wait for {state.app.name}", retry_after_s=5)
        if self.held >= self._held_max:
            raise Problem(Code.QUEUE_FULL, f"{self.held} requests wait in this proxy", retry_after_s=5)

    def _take(self, state: _State) -> Backend | None:
        running = self._containers.running(state.app)
        free = [backend for backend in running if state.unanswered.get(backend.key, 0) < backend.concurrency]
        backend = routing.pick(free, self._in_flight, self._rng)
        return None if backend is None else self._count(state, backend)

    def _count(self, state: _State, backend: Backend) -> Backend:
        state.unanswered[backend.key] = state.unanswered.get(backend.key, 0) + 1
        state.futile = 0
        return backend

    def _pump(self, state: _State) -> None:
        while state.waiting and (backend := self._take(state)) is not None:
            waiter = next(iter(state.waiting))
            del state.waiting[waiter]
            if waiter.future.done():
                self.answered(state.app.name, backend)
                continue
            phases: Mapping[str, float] = {} if waiter.phases is None else waiter.phases
            waited_s = self._clock() - waiter.since
            waiter.future.set_result(Grant(backend, waited_s, waiter.phases is not None, phases))
        if state.waiting and not self._containers.running(state.app):
            self._wake(state)

    def _wake(self, state: _State) -> None:
        first = next(iter(state.waiting))
        if state.flight is not None:
            self._join(state)
            return
        choice = self._containers.to_wake(state.app, first.wanted)
        if choice is None:
            self._fail(state, Problem(Code.NO_COMPUTE, f"nobody can start {state.app.name}", retry_after_s=5))
        elif isinstance(choice, Backend):
            self._pass_all(state, choice)
        elif state.futile >= FUTILE_STARTS_MAX:
            self._fail(state, Problem(Code.CONTAINER_DIED, f"{state.app.name} dies as soon as it has started"))
        else:
            state.futile += 1
            name = f"wake {state.app.name}/{choice}"
            state.phases = {}
            self._join(state)
            state.flight = self._tasks.start(self._fly(state, choice, first.detail), name=name)

    def _join(self, state: _State) -> None:
        for waiter in reversed(state.waiting):
            if waiter.phases is state.phases:
                break  # those before it have joined already
            waiter.phases = state.phases

    def _pass_all(self, state: _State, backend: Backend) -> None:
        for waiter in list(state.waiting):
            del state.waiting[waiter]
            if not waiter.future.done():
                waiter.future.set_result(Grant(self._count(state, backend), self._clock() - waiter.since))

    async def _fly(self, state: _State, container: str, detail: str) -> None:
        problem = Problem(Code.INTERNAL, "the start was interrupted")
        started = False
        try:
            state.phases.update(await self._containers.start(state.app, container, detail))
            started = True
        except Problem as refused:
            problem = refused
        finally:
            state.flight = None
            if not started and not self._containers.running(state.app):
                self._fail(state, problem)
            self._pump(state)
            self._tidy(state)

    def _fail(self, state: _State, problem: Problem) -> None:
        for waiter in list(state.waiting):
            del state.waiting[waiter]
            if not waiter.future.done():
                waiter.future.set_exception(
                    Problem(problem.code, problem.message, hint=problem.hint, retry_after_s=problem.retry_after_s)
                )

    def _tidy(self, state: _State) -> None:
        if not state.waiting and not state.unanswered and state.flight is None:
            self._apps.pop(state.app.name, None)
