"""The lives on this Compute: started, followed, drained and stopped. Knows neither the CMDB nor the agent's socket.

Everything that happens to a life is told to the `Listener` that owns this; what should happen is its owner's decision. Each step
is in the journal before it is done, so that whoever comes after this process finds every container, half-made or not.
"""

import asyncio
import datetime
import functools
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

from containerlib import starting
from containerlib.bind import BindMount
from containerlib.cgroups import Limits
from containerlib.checks import SpecError
from containerlib.handle import BlankLost, Container, StartFailed
from containerlib.hooks import Phase
from containerlib.identity import Identity
from containerlib.readiness import (
    ListenEvents,
    Listening,
    answers_health,
    concurrency_of,
    wait_until_listening,
    why_not,
)
from containerlib.runtime import Runtime
from containerlib.spec import ContainerSpec
from containerlib.standalone import applying
from containerlib.standalone.hands import DIED, Inside
from containerlib.standalone.worker import tasks_of
from dispatcher import units
from dispatcher.compute import freezing, logs, reasons, reconcile, state
from dispatcher.compute.adjusting import Adjusting
from dispatcher.compute.defined import container_spec, needs_new_life
from dispatcher.compute.definitions import Shelf
from dispatcher.compute.helper import Helper
from dispatcher.compute.hooked import Hooked
from dispatcher.compute.imaged import Imaged
from dispatcher.compute.journal import Journal, Record
from dispatcher.compute.life import COLD, Draining, Life, Listener
from dispatcher.compute.policies import network_policy
from dispatcher.compute.pool import Pool
from dispatcher.compute.restored import Keeper
from dispatcher.compute.roots import Roots
from dispatcher.compute.strategy import Choice
from dispatcher.domain import App, Cause, Status
from dispatcher.tasks import Tasks, border

ACK_S = 2.0  # a proxy that does not confirm a drain within this is taken at its last word
LOG_AFTER_S = 0.02  # of its start: opening its log takes 0.5 ms, of the CPU that a program boots on as often as not
REATTACH_S = 3.0  # in which the proxies of a former agent come back and tell their counts
_SOMEBODY = -1  # stands for proxies that have not attached yet
HEALTH_EVERY_S = 0.1
_log = logging.getLogger(__name__)


class Lives:
    def __init__(
        self,
        runtime: Runtime,
        pool: Pool,
        events: ListenEvents,
        journal: Journal,
        log_dir: Path,
        tasks: Tasks,
        listener: Listener,
        roots: Roots,
        shelf: Shelf,
        helper: Helper,
        keeper: Keeper,
    ) -> None:
        self._runtime = runtime
        self._pool = pool
        self._events = events
        self._journal = journal
        self._log_dir = log_dir / "lives"
        self._tasks = tasks
        self._listener = listener
        self._adjusting = Adjusting(runtime, journal, tasks, listener)
        self._roots = roots
        self._shelf = shelf
        self._helper = helper
        self._hooked: dict[str, Hooked] = {}  # by life, of those whose definitions have functions
        self._imaged = Imaged(runtime, keeper, journal, listener)
        self._lives: dict[str, dict[str, Life]] = {}
        self._journalled: dict[
            tuple[str, str], int
        ] = {}  # the last generation of each container that a former agent started

    def __iter__(self) -> Iterator[Life]:
        return iter([life for lives in self._lives.values() for life in lives.values()])

    def __len__(self) -> int:
        return sum(map(len, self._lives.values()))

    def of(self, app: str) -> dict[str, Life]:
        return self._lives.get(app, {})

    def get(self, app: str, id: str) -> Life | None:
        return self._lives.get(app, {}).get(id)

    def by_name(self, name: str) -> Life | None:
        app, _, rest = name.partition("/")
        life = self.get(app, rest.partition(".")[0])
        return life if life and life.name == name else None

    def forget(self, app: str) -> None:
        """Of one that was removed: what is kept to begin it from."""
        self._imaged.forget(app)

    def lacks_image(self, life: Life) -> bool:
        """If it is stopped, one is taken that is still missing."""
        return self._imaged.lacks_image(life)

    @property
    def host_address(self) -> str:
        """As containers see this host."""
        return self._runtime.network.addresses.host

    def reserve_is_large(self, now: float) -> bool:
        return self._pool.ready > self._pool.target(now)

    async def shrink_reserve(self, now: float) -> None:
        await self._pool.shrink(now)

    # ---- starting

    def next_generation(self, app: str, id: str, told: int) -> int:
        """`told`: the last one by the container's row, which an agent that was killed at the wrong moment had not written yet."""
        return max(told, self._journalled.get((app, id), 0)) + 1

    def start(self, app: App, id: str, generation: int, cause: Cause, detail: str = "", begins: Choice = COLD) -> Life:
        now = time.time()
        expires = now + reconcile.lifespan_s(app.spec.policy, random.random())
        life = Life(app, id, generation, cause, detail, now, expires, time.monotonic(), begins)
        life.move(state.Event.START)
        self._lives.setdefault(app.name, {})[id] = life
        life.starting = self._tasks.start(self._start(life), name=f"start {life.name}")
        # After the start's first step, which sends a blank on its way: whoever hears of it would want a CPU, too.
        asyncio.get_running_loop().call_soon(self._say_starting, life)
        return life

    def _say_starting(self, life: Life) -> None:
        if life.status is Status.STARTING and not life.ended.is_set():
            self._listener.life_changed(life)

    async def _start(self, life: Life) -> None:
        try:
            if life.app.spec.definition:
                await self._define(life)
            self._imaged.check(life)
            if life.app.spec.image:
                await self._find_root(life)
            await self._phases(life, Phase.SETUP, Phase.BEFORE_FORK)
            before = functools.partial(self._phases, life, Phase.BEFORE_RESTORE)
            if await self._imaged.wants(life) and not await self._imaged.restore(life, before):
                await self._imaged.make(life)
                async with self._imaged.halting(life) as take:
                    life.phases |= await self._wake(life)
                    await self._executed(life, take)
                return
            if life.handle is not None:  # it was restored
                await self._adjusting.limit_io(life)
            while life.handle is None and not await self._wake_a_blank(life):
                pass
            await self._executed(life)
        except (StartFailed, TimeoutError, OSError) as error:
            life.problem = life.problem or str(error) or type(error).__name__
            await self._start_failed(life)

    async def _executed(self, life: Life, at_once: Callable[[], Awaitable[None]] | None = None) -> None:
        self._follow(life)
        if life.status is Status.STARTING:
            if "restore" in life.phases and (hooked := self._hooked.get(life.name)):
                hooked.watch_memory()
                await hooked.phases((Phase.AFTER_RESTORE,))
            await self._phases(life, Phase.AFTER_START)
            if at_once is not None:
                await at_once()
            await self._await_readiness(life)

    async def _define(self, life: Life) -> None:
        for complaint in await self._shelf.refresh():
            self._listener.tell(life, "refused", complaint)
        definition = self._shelf.of(life.app)
        applying.check_apparmor(definition.security.apparmor)
        if definition.security.capabilities and not self._runtime.maps_users:
            raise StartFailed(
                "capabilities need user namespaces, which this host does not allow: they would be the host's"
            )
        life.app, life.definition = self._shelf.applied(life.app), definition
        life.expires = life.started + reconcile.lifespan_s(life.app.spec.policy, random.random())
        await self._hook(life, definition)

    async def _hook(self, life: Life, definition: ContainerSpec) -> None:
        """Nothing of it where a definition has no functions."""
        if tasks := tasks_of(definition):
            await self._helper.load(self._shelf.texts, life.app.spec.definition, tasks)
            self._hooked[life.name] = Hooked(
                life, definition, self._helper, lambda text: self._listener.tell(life, "hook failed", text)
            )

    async def _phases(self, life: Life, *phases: Phase) -> None:
        if hooked := self._hooked.get(life.name):
            await hooked.phases(phases)

    async def _find_root(self, life: Life) -> None:
        if not self._runtime.maps_users:
            raise StartFailed("an image needs user namespaces, which this host does not allow")
        began = time.perf_counter()
        life.root = await self._roots.find(life.app, life.definition)
        life.phases["image"] = _ms_since(began)

    async def _wake_a_blank(self, life: Life) -> bool:
        """False: that one had died in reserve."""
        began = time.perf_counter()
        life.handle = await self._blank_for(life)
        life.phases["queue"] = _ms_since(began)
        self._journal.write(life.record())
        try:
            life.phases |= await self._wake(life)
        except BlankLost as error:
            _log.warning("%s: %s; taking another", life.name, error)
            lost, life.handle = life.handle, None
            await self._runtime.destroy(lost)
            return False
        return True

    async def _blank_for(self, life: Life) -> Container:
        """One with a list of system calls of its own is made for it: those in reserve have loaded everybody's."""
        own = applying.own_filter(life.definition.security.seccomp) if life.definition else None
        if own is not None:
            return await self._runtime.make_blank(filter=own)
        return await self._take_blank(life.app.spec.policy.start_timeout_s)

    async def _take_blank(self, timeout_s: float) -> Container:
        """Bounded like the rest of a start: without a launcher there are none."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._pool.take()
        except TimeoutError:
            why = f": {self._pool.complaint}" if self._pool.complaint else ""
            raise StartFailed(f"no prepared process was to be had within {timeout_s:g} s{why}") from None

    async def _wake(self, life: Life) -> dict[str, float]:
        app, handle = life.app, life.handle
        assert handle is not None
        spec = app.spec
        if app.uid is None:
            raise StartFailed(f"app {app.name} has no range of user ids yet (key apps/{app.name}/uid_base)")
        await self._adjusting.limit_io(life)
        limits = Limits(units.parse_cpu(spec.policy.boot_cpu), app.memory_bytes, spec.pids)
        if life.root or life.definition:
            return await self._wake_defined(life, app.uid, limits)
        identity = Identity(
            hostname=app.name,
            uid=app.uid,
            command=spec.command,
            workdir=spec.workdir,
            env=dict(spec.env),
            mounts=tuple(mount.target for mount in spec.mounts),
            address=handle.address,
            init=spec.init,
        )
        mounts = tuple(BindMount(mount.source, mount.target, mount.readonly) for mount in spec.mounts)
        return await self._runtime.wake(handle, identity, mounts, limits, network_policy(spec))

    async def _wake_defined(self, life: Life, uid: int, limits: Limits) -> dict[str, float]:
        """By a whole ContainerSpec: what it wants is more than usual, or a root of its own."""
        handle, network = life.handle, network_policy(life.app.spec)
        assert handle is not None
        try:
            spec = life.root.resolved if life.root else container_spec(life.app, life.definition)
            identity = starting.identity_of(spec, uid, handle.address)
        except SpecError as error:
            raise StartFailed(str(error)) from error
        applying.write_settings(handle.group, spec)
        if hooked := self._hooked.get(life.name):
            await hooked.phases(starting.BEFORE_IDENTITY[2:])
            hooked.watch_memory()
        binds = () if life.root else tuple(BindMount(m.source, m.target, m.readonly) for m in starting.binds(spec))

        async def at_gate() -> None:
            await self._at_gate(life, spec, identity)

        gate = at_gate if starting.has_gate(spec) else None
        return await self._runtime.wake(handle, identity, binds, limits, network, gate)

    async def _at_gate(self, life: Life, spec: ContainerSpec, identity: Identity) -> None:
        """The process waits with all its own files in place; the helper does what it may no longer do itself."""
        handle, made = life.handle, starting.files_at_gate(spec)
        assert handle is not None
        root = self._roots.adoption(life.root, handle, identity) if life.root else None
        if made or root:
            failure = await self._helper.hands.operate(made, Inside(handle.pidfd, ()), root)
            if failure == DIED:  # by no fault of this start's; what is half made goes with the process that waits
                raise BlankLost(failure)
            if failure:
                raise StartFailed(failure)
        await self._phases(life, *starting.AT_THE_GATE)
        applying.set_rlimits(spec, [handle.pid])

    def _follow(self, life: Life) -> None:
        assert life.handle is not None
        life.followed = True
        loop = asyncio.get_running_loop()
        loop.add_reader(life.handle.pidfd, self._exited, life)
        if life.handle.program:
            loop.add_reader(life.handle.program.pidfd, self._program_ended, life)
        loop.call_later(LOG_AFTER_S, self._open_log, life)

    def _open_log(self, life: Life) -> None:
        """Not before the program has booted, if that is quick; until then its lines wait in the FIFOs."""
        if life.log is not None or life.ended.is_set():
            return
        assert life.handle is not None
        directory = self._log_dir / life.app.name
        try:
            life.log = logs.LifeLog(directory, f"{life.id}.{life.generation}", life.handle.logs, _stamp)
        except OSError as error:  # a full disk must not take a site down
            _log.warning("%s has no log: %s", life.name, error)
        else:
            life.log.follow()

    async def _await_readiness(self, life: Life) -> None:
        """Cancelled when the life ends, or is told to go, while it starts."""
        assert life.handle is not None
        began = time.perf_counter()
        policy, port = life.app.spec.policy, life.app.spec.port
        left_s = policy.start_timeout_s - (time.time() - life.started)
        finding = await wait_until_listening(life.handle.wire.diag, port, self._events, left_s)
        if finding.listening is not Listening.YES:
            raise StartFailed(why_not(finding, port, policy.start_timeout_s, "the app's `port`"))
        life.phases["listen"] = _ms_since(began)
        if policy.health_path:
            await self._await_health(life, policy.health_path)
        await self._imaged.when_ready(life)
        life.concurrency = concurrency_of(finding.backlog, policy.concurrency)
        self._now_running(life)

    async def _await_health(self, life: Life, path: str) -> None:
        assert life.handle is not None
        began = time.perf_counter()
        policy = life.app.spec.policy
        while True:
            left_s = policy.start_timeout_s - (time.time() - life.started)
            try:
                async with asyncio.timeout(left_s):
                    if await answers_health(life.handle.address, life.app.spec.port, path, life.app.name):
                        break
            except TimeoutError:
                message = f"it listens, but {path} did not answer below 500 within {policy.start_timeout_s:g} s"
                raise StartFailed(message) from None
            await asyncio.sleep(HEALTH_EVERY_S)
        life.phases["health"] = _ms_since(began)

    def _now_running(self, life: Life) -> None:
        assert life.handle is not None
        life.move(state.Event.LISTENING)
        life.running_since = life.quiet_since = time.monotonic()
        life.ready = time.time()
        self._journal.write(life.record())
        self._listener.life_changed(life)
        # After whoever waits was told: until now it had boot_cpu.
        life.handle.group.set_cpu(life.app.cpu)
        if hooked := self._hooked.get(life.name):
            hooked.start_timers()
            self._tasks.start(hooked.phases((Phase.READY,)), name=f"ready {life.name}")

    async def _start_failed(self, life: Life) -> None:
        if not life.followed:  # never executed
            expected = life.status is Status.DRAINING
            life.move(state.Event.EXITED if expected else state.Event.FAILED)
            await self._bury(life, expected=expected)
        elif life.status is Status.STARTING and life.handle is not None:
            life.handle.kill()  # its end is noticed like any other

    # ---- following

    def _program_ended(self, life: Life) -> None:
        """PID 1 would pause on."""
        assert life.handle is not None and life.handle.program is not None
        asyncio.get_running_loop().remove_reader(life.handle.program.pidfd)
        life.handle.kill()

    def _exited(self, life: Life) -> None:
        assert life.handle is not None
        asyncio.get_running_loop().remove_reader(life.handle.pidfd)
        if life.handle.program:
            asyncio.get_running_loop().remove_reader(life.handle.program.pidfd)
        self._stop_waiting_for(life)
        self._stop_freezing(life)
        self._tasks.start(self._ended(life), name=f"end of {life.name}")

    async def _ended(self, life: Life) -> None:
        assert life.handle is not None
        status = await self._runtime.exit_status(life.handle)
        life.exit_status = reasons.exit_code(status)
        expected = life.status is Status.DRAINING
        self._open_log(life)
        if life.log:
            life.log.close()
        if not expected:
            life.problem = life.problem or self._runtime.exec_failure(life.handle) or reasons.why_ended(life, status)
        was = life.status
        life.move(state.Event.FAILED if was is Status.STARTING else state.Event.EXITED)
        await self._bury(life, expected=expected)

    async def _bury(self, life: Life, *, expected: bool) -> None:
        """The world is told first; tearing down takes milliseconds that nobody should wait for."""
        lives = self._lives[life.app.name]
        del lives[life.id]
        if not lives:
            del self._lives[life.app.name]
        life.ended.set()
        with border(f"telling of the end of {life.name}"):
            self._listener.life_ended(life, expected=expected)
        await self._clear_away(life, expected=expected)
        if life.root:
            self._roots.release(life.root)
        logs.trim(self._log_dir / life.app.name)

    async def _clear_away(self, life: Life, *, expected: bool) -> None:
        async def destroy() -> None:
            if life.handle:
                await self._runtime.destroy(life.handle)
                self._journal.write(life.record(gone=True))

        if hooked := self._hooked.pop(life.name, None):
            await hooked.end("" if expected else life.problem, life.exit_status, destroy)
        else:
            await destroy()

    async def adopt(self, record: Record) -> bool:
        """A life of the agent before this one. False: it ended meanwhile."""
        spec = record.app.spec
        self._journalled[record.app.name, record.container] = record.generation
        handle = await self._runtime.adopt(
            record.slot, record.pid, record.start_time, init=spec.init, policy=network_policy(spec)
        )
        if handle is None:
            return False
        handle.etc_image = record.etc_image
        life = Life(
            record.app, record.container, record.generation, record.cause, "", record.started, record.expires,
            time.monotonic() + REATTACH_S,
            status=record.status, handle=handle, concurrency=record.concurrency,
            running_since=time.monotonic(), unheard_until=time.monotonic() + REATTACH_S,
        )  # fmt: skip
        if record.image:
            life.root = self._roots.find_again(record.app, record.image)
        if spec.definition and (definition := self._shelf.get(spec.definition)):
            life.definition, life.ready = definition, record.ready
            await self._hook(life, definition)
        self._lives.setdefault(life.app.name, {})[life.id] = life
        self._follow(life)
        if hooked := self._hooked.get(life.name):
            try:
                hooked.watch_memory()
            except StartFailed as error:
                self._listener.tell(life, "hook failed", str(error))
            if life.ready:
                hooked.start_timers(since_s=time.time() - life.ready)
        self._adjusting.again(life)
        if life.status is Status.FROZEN:
            self._find_frozen(life)
        self._listener.life_changed(life)
        if life.status is Status.STARTING:
            life.starting = self._tasks.start(self._go_on_starting(life), name=f"start {life.name}")
        elif life.status is Status.DRAINING:
            self._begin_draining(life, "drained by a former agent", None)
        return True

    def _find_frozen(self, life: Life) -> None:
        """The journal says frozen from before the kernel may begin until after it has ended: which it is, the kernel knows."""
        assert life.handle is not None
        if life.handle.group.is_frozen():
            # A death in the middle of reclaiming may have left another limit.
            life.handle.group.set_memory(life.app.memory_bytes)
            freezing.kept(life)
        else:
            self.thaw(life)

    async def _go_on_starting(self, life: Life) -> None:
        assert life.handle is not None
        self._imaged.go_on(life.handle)
        try:
            await self._await_readiness(life)
        except (StartFailed, TimeoutError, OSError) as error:
            life.problem = str(error)
            await self._start_failed(life)

    # ---- ending

    def drain(self, life: Life, reason: str, cut_after_s: float | None = None) -> None:
        """State first, then traffic stops, then what is in flight ends, then the process is told to stop. Drained twice, the
        earlier end counts."""
        cut_at = None if cut_after_s is None else time.monotonic() + cut_after_s
        if life.draining:
            if cut_at is not None and (life.draining.cut_at is None or cut_at < life.draining.cut_at):
                life.draining.cut_at = cut_at
                self.check(life, time.monotonic())
            return
        self._stop_freezing(life)
        life.move(state.Event.DRAIN)
        if life.handle:
            self._journal.write(life.record())
        self._listener.tell(life, "draining", reason)
        self._begin_draining(life, reason, cut_at)

    def _begin_draining(self, life: Life, reason: str, cut_at: float | None) -> None:
        life.draining = Draining(reason, cut_at)
        if life.followed:
            self._stop_waiting_for(life)
        self._let_go(life)

    def _let_go(self, life: Life) -> None:
        """Tells the proxies of a state in which it gets no further request, and awaits that they have heard it."""
        now = time.monotonic()
        unheard = {_SOMEBODY} if now < life.unheard_until else set()
        life.turn += 1
        life.awaited = self._listener.proxies() | unheard
        life.ack_by = max(now + ACK_S, life.unheard_until)
        self._listener.life_changed(life)
        self.check(life, now)

    def _stop_waiting_for(self, life: Life) -> None:
        """Of a life that was executed: what leads there is never cut short."""
        if life.starting:
            life.starting.cancel()

    def confirm(self, life: Life, proxy: int) -> None:
        life.awaited.discard(proxy)
        self.check(life, time.monotonic())

    def check(self, life: Life, now: float) -> None:
        """Whether what it was let go for can be done."""
        if life.draining and not life.stopping:
            self._check_drained(life, life.draining, now)
        elif life.status is Status.FROZEN and not life.is_frozen and life.freezing is None and life.is_let_go(now):
            frozen = freezing.freeze(life, self._listener)
            life.freezing = self._tasks.start(frozen, name=f"freeze {life.name}")

    def _check_drained(self, life: Life, draining: Draining, now: float) -> None:
        cut = draining.cut_at is not None and now >= draining.cut_at
        if cut and life.in_flight:
            self._listener.tell(life, "cut", f"{life.in_flight} requests in flight were cut: {draining.reason}")
        if cut or life.is_let_go(now):
            life.stopping = True
            self._tasks.start(self._stop(life), name=f"stop {life.name}")

    async def _stop(self, life: Life) -> None:
        if not life.followed:
            # Told to go before it was executed: the start, which must not be left half-done, ends first.
            if life.starting:
                await asyncio.wait([life.starting])
            if life.ended.is_set():
                return
        assert life.handle is not None
        await self._phases(life, Phase.BEFORE_STOP)
        if life.ended.is_set():
            return
        if await self._imaged.instead_of_stopping(life):
            life.handle.kill()
            return
        if life.definition:
            life.handle.ask_to_stop(init=life.app.spec.init, number=life.definition.stop.signal)
        else:
            life.handle.ask_to_stop(init=life.app.spec.init)
        with suppress(TimeoutError):
            async with asyncio.timeout(life.app.spec.policy.stop_grace_s):
                await life.ended.wait()
        if not life.ended.is_set():
            life.handle.kill()

    # ---- frozen and thawed

    def freeze(self, life: Life, why: str = "") -> None:
        """Once the proxies have let go of it. Its owner hears if the kernel does not do it."""
        life.frozen_for = why
        life.move(state.Event.FREEZE)
        if hooked := self._hooked.get(life.name):
            hooked.rest()
        self._journal.write(life.record())
        self._let_go(life)

    def thaw(self, life: Life) -> None:
        """Whether it is frozen already or not. Raises OSError, and it stays frozen, where the kernel refuses or it was killed."""
        assert life.handle is not None
        began = time.perf_counter()
        self._stop_freezing(life)
        if life.handle.was_killed():
            raise ProcessLookupError("it was killed while it was frozen")
        life.handle.group.thaw()
        life.move(state.Event.THAW)
        life.is_frozen, life.kept_bytes = False, 0
        life.quiet_since = time.monotonic()
        life.phases = {"thaw": _ms_since(began)}
        if hooked := self._hooked.get(life.name):
            hooked.resume()
        self._journal.write(life.record())  # not before: what it says is frozen, the next agent looks at

    def let_killed_die(self) -> None:
        """With cgroup v1 what was killed while it was frozen dies when it is thawed, which is noticed like any other death."""
        for life in self:
            if life.is_frozen and life.handle and life.handle.was_killed():
                life.handle.kill()

    def _stop_freezing(self, life: Life) -> None:
        if life.freezing:
            life.freezing.cancel()
            life.freezing = None

    # ---- what changes while it runs

    def redefine(self, life: Life) -> None:
        """To what its definition says now, where that needs no new life: functions, timers."""
        definition = self._shelf.get(life.app.spec.definition) if life.definition else None
        if definition is None or definition is life.definition or needs_new_life(life.definition, definition):
            return
        if life.status is Status.RUNNING and not life.successor:
            life.definition = definition
            self._tasks.start(self._redefine(life, definition), name=f"reload {life.name}")

    async def _redefine(self, life: Life, definition: ContainerSpec) -> None:
        if (hooked := self._hooked.get(life.name)) is None:
            await self._hook(life, definition)
            hooked = self._hooked.get(life.name)
        elif tasks := tasks_of(definition):
            await self._helper.load(self._shelf.texts, life.app.spec.definition, tasks)
        if hooked is None or life.ended.is_set():
            return
        try:
            await hooked.reload(definition)
        except StartFailed as error:
            self._listener.tell(life, "hook failed", str(error))
        self._listener.tell(life, "reloaded", f"definition {life.app.spec.definition} was read anew")

    def close(self) -> None:
        """This agent ends, its containers go on."""
        for hooked in self._hooked.values():
            hooked.close()

    def resize(self, life: Life, app: App) -> None:
        """Raises OSError where the kernel refuses."""
        self._adjusting.resize(life, app)


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def _stamp() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
