"""The life of one container: started, followed, ended and cleared away, by a process of its own.

    with hold(settings, spec.name) as place:
        outcome = asyncio.run(Runner(spec, place, hands).run())

A step is in the container's record before it is done, so that whoever comes after a runner that died can clear away what it left.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from containerlib import process, starting
from containerlib.bind import BindMount
from containerlib.bootstrap import usr
from containerlib.cgroups import events
from containerlib.checkpoint import dumping
from containerlib.checkpoint.criu import Criu, CriuFailed, Unavailable
from containerlib.checkpoint.halting import Halting, NotHalted
from containerlib.checkpoint.images import Image as CheckpointImage
from containerlib.checkpoint.images import Moment as ImageMoment
from containerlib.checkpoint.images import NoImage
from containerlib.checks import SpecError
from containerlib.dsl import DefinitionError, load
from containerlib.handle import Container, Kind, StartFailed
from containerlib.hooks import CgroupHook, Moment, Phase
from containerlib.idmap import APP_USER
from containerlib.images import Image, ImageError, Store, hold, mark
from containerlib.plan import app_files, user_files
from containerlib.runtime import Runtime
from containerlib.schedule import Schedule
from containerlib.spec import ContainerSpec, Stop, Tmpfs
from containerlib.spec import Image as Root
from containerlib.standalone import applying, checkpointing, control, output
from containerlib.standalone.adopting import Adoption
from containerlib.standalone.asked import Asked
from containerlib.standalone.hands import Hands, Inside
from containerlib.standalone.machine import events_name, machine
from containerlib.standalone.places import Place, Record, register
from containerlib.standalone.ready import wait_until_ready
from containerlib.standalone.reload import changes
from containerlib.standalone.resolving import resolve
from containerlib.standalone.telling import Telling
from containerlib.standalone.worker import tasks_of

_FOR_EVER = float("inf")


@dataclass(frozen=True, slots=True)
class Outcome:
    """`exit_code` as a shell has it; `failure` says why it did not start or run, for its owner."""

    exit_code: int
    failure: str = ""


def to_stderr(text: str) -> None:
    with suppress(OSError):  # a log without room must not end the container that it tells of
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


@dataclass
class Runner:
    """`files`: of its definition, to be read anew on reload. `say` is told what its owner should know, `ready` once, when it is.
    `sinks` get what it writes; None: the files of its record. `restore`: an image to begin with, if that can be."""

    spec: ContainerSpec
    place: Place
    hands: Hands
    files: tuple[Path, ...] = ()
    say: Callable[[str], None] = to_stderr
    ready: Callable[[Record], None] = lambda _record: None
    sinks: tuple[output.Sink, output.Sink] | None = None
    terminal: int | None = None
    restore: Path | None = None
    record: Record = field(init=False)
    container: Container | None = field(default=None, init=False)
    told: Telling = field(init=False)
    executed: bool = field(default=False, init=False)
    ended: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stop: Stop | None = field(default=None, init=False)
    _over: asyncio.Event = field(default_factory=asyncio.Event, init=False)  # it has ended, or is to
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _runtime: Runtime = field(init=False)
    _output: output.Output | None = field(default=None, init=False)
    _watches: ExitStack = field(default_factory=ExitStack, init=False)
    _image: Image | None = field(default=None, init=False)
    _held: ExitStack = field(default_factory=ExitStack, init=False)  # its version, as long as anything of it runs
    _resolved: ContainerSpec = field(init=False)  # with what its image says
    _schedule: Schedule = field(default_factory=Schedule, init=False)
    _exit_status: int | None = field(default=None, init=False)
    _by_itself: bool = field(default=False, init=False)
    _chosen: tuple[Criu, CheckpointImage] | None = field(default=None, init=False)
    _checkpointed: bool = field(default=False, init=False)
    _halting: Halting | None = field(default=None, init=False)

    async def run(self) -> Outcome:
        """Raises Taken, and OSError for what this host lacks; nothing is left of it whatever happens."""
        try:
            self.record = register(self.place, self.spec, time.time())
        except BaseException:
            self.place.remove()
            raise
        self.told = Telling(self.spec.name, self.hands, self.say, self._moment, self._inside)
        try:
            with Asked(self) as asked:
                return await self._run(asked)
        except Exception as error:
            await self._phase(Phase.SYSTEM_FAILURE, failure=str(error))
            raise
        finally:
            self._held.close()
            self.place.remove()

    async def _run(self, asked: Asked) -> Outcome:
        try:
            if self.spec.checkpoint and (missing := starting.not_dumpable(self.spec)):
                raise StartFailed(f"not possible together with checkpoint: {', '.join(missing)}")
            applying.check_apparmor(self.spec.security.apparmor)
            self._resolve()
            self._choose_image()
            for phase in (Phase.SETUP, Phase.BEFORE_FORK):
                await self._phase(phase)
        except StartFailed as error:
            outcome = Outcome(1, str(error))
            await self._phase(Phase.AFTER_FAILURE, failure=outcome.failure)
        else:
            async with machine(self.place, self.record) as self._runtime:
                server = await control.serve(self.place.directory / "control.sock", asked.answer)
                try:
                    outcome = await self._life()
                finally:
                    server.close()
        await self._phase(Phase.TEARDOWN, exit_status=outcome.exit_code, failure=outcome.failure)
        return outcome

    async def _life(self) -> Outcome:
        failure = ""
        try:
            try:
                await self._unless_over(self._start())
                if self.record.status == "running":
                    self.ready(self.record)
                    await self._phase(
                        Phase.READY
                    )  # to its end, even if it is to stop by now: phases come one after the other
                await self._live()
            except (StartFailed, TimeoutError, OSError) as error:
                failure = str(error) or type(error).__name__
            await self._end(failed=bool(failure))
            outcome = self._outcome(failure)
            if outcome.failure:
                await self._phase(Phase.AFTER_FAILURE, exit_status=outcome.exit_code, failure=outcome.failure)
            await self._phase(Phase.TEARDOWN_CONTAINER, exit_status=outcome.exit_code, failure=outcome.failure)
            return outcome
        finally:
            await self._destroy()

    async def _phase(self, phase: Phase, *, exit_status: int | None = None, failure: str = "") -> None:
        await self.told.phase(self.spec.hooks, phase, exit_status=exit_status, failure=failure)

    def _moment(self, cause: str) -> Moment:
        record, spec = self.record, self.spec
        where = (record.pid, record.address, spec.host_name, record.cgroups)
        return Moment(record.name, str(cause), *where, dict(spec.metadata))

    def _inside(self) -> Inside | None:
        if self.container is None or self.ended.is_set():
            return None
        return Inside(self.container.pidfd, self.container.group.entrances())

    def _record(self, **changes: Any) -> None:
        self.record = replace(self.record, **changes)
        self.place.write(self.record)

    # ---- starting

    def _resolve(self) -> None:
        """Of an image its version now, and what of the definition it answers for."""
        if not isinstance(self.spec.root, Root):
            return
        try:
            self._image, self._resolved = resolve(self.spec, Store(self.place.settings.roots))
            self._held.callback(os.close, hold(self._image))
        except (SpecError, ImageError) as error:
            raise StartFailed(str(error)) from error
        name = f"{self._image.manifest.name}@{self._image.version}"
        self._record(image=name, workdir=self._resolved.workdir, env=dict(self._resolved.env))

    def _choose_image(self) -> None:
        if self.restore is not None:
            try:
                self._chosen = checkpointing.choose(self.spec, self.record, self.restore)
            except (NoImage, Unavailable) as error:
                self._cannot_restore(error)

    def _cannot_restore(self, error: Exception) -> None:
        self._chosen = None
        self.say(f"{self.spec.name}: {error}; it starts anew instead")

    async def _start(self) -> None:
        async with AsyncExitStack() as following:
            container = await self._restored() or await self._cold(following)
            self._follow(container)
            if self._halting is not None:
                await self._take_halted(container, self._halting)
        if self.record.restored:
            await self._phase(Phase.AFTER_RESTORE)
        await self._phase(Phase.AFTER_START)
        await wait_until_ready(container, self.spec, events_name(self.record))
        self._record(status="running")

    async def _cold(self, following: AsyncExitStack) -> Container:
        own_filter = applying.own_filter(self.spec.security.seccomp)
        kind = Kind(dumpable=None if self.spec.checkpoint is None else self.record.id_base)
        container = await self._runtime.make_blank(self.record.slot, own_filter, kind)
        self._have(container)
        for phase in starting.BEFORE_IDENTITY[2:]:
            await self._phase(phase)
        applying.write_settings(container.group, self.spec)
        self._watch_memory(container)
        try:
            if checkpointing.lacks_image(self.place.settings, self.spec, self.record):
                self._halting = await checkpointing.follow(self.spec, container, following)
        except (NotHalted, Unavailable) as error:
            self._no_image(error)
        await self._wake(container)
        return container

    async def _take_halted(self, container: Container, halting: Halting) -> None:
        settings, timeout_s = self.place.settings, self.spec.readiness.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await halting.halted()
            await checkpointing.take(
                settings, self.spec, self.record, container, ImageMoment.HALTED, leave_running=True
            )
        except TimeoutError:
            self._no_image(f"it did not come to {halting.call} within {timeout_s:g} s")
        except (NotHalted, CriuFailed, Unavailable) as error:
            self._no_image(error)
        finally:
            dumping.resume(container)

    def _no_image(self, why: object) -> None:
        self.say(f"{self.spec.name}: no image of it was taken: {why}")

    async def _restored(self) -> Container | None:
        if self._chosen is None:
            return None
        await self._phase(Phase.BEFORE_RESTORE)
        try:
            container = await checkpointing.restore(self._runtime, self.spec, self.record, self._chosen)
        except StartFailed as error:
            self._cannot_restore(error)
            return None
        self._have(container)
        self._record(restored=True)
        applying.write_settings(container.group, self.spec)
        self._watch_memory(container)
        return container

    def _have(self, container: Container) -> None:
        self.container = container
        groups = tuple(str(directory) for directory in container.group.directories())
        numbers = {"pid": container.pid, "start_time": container.start_time}
        self._record(**numbers, address=container.address, cgroups=groups)
        self._output = output.Output(container.logs, self.sinks or self._log_files(), self._complain)

    def _complain(self, text: str) -> None:
        self.say(f"{self.spec.name}: {text}")

    def _log_files(self) -> tuple[output.Sink, output.Sink]:
        bytes_max = self.spec.log.bytes_max
        return output.File(self.record.stdout, bytes_max), output.File(self.record.stderr, bytes_max)

    async def _wake(self, container: Container) -> None:
        spec = self.spec
        try:
            identity = starting.identity_of(
                self._resolved if self._image else spec, self.record.id_base, container.address
            )
        except SpecError as error:
            raise StartFailed(str(error)) from error
        self._record(user=identity.user, group=identity.group, groups=identity.groups)
        bound = () if self._image else starting.binds(spec)
        binds = tuple(BindMount(each.source, each.target, each.readonly) for each in bound)
        if self._image and not self._runtime.maps_users:
            raise StartFailed("an image needs user namespaces, which this host does not allow")
        if identity.capabilities and not self._runtime.maps_users:
            raise StartFailed(
                "capabilities need user namespaces, which this host does not allow: they would be the host's"
            )
        gate = self._at_gate if starting.has_gate(spec) else None
        limits, policy = starting.limits_of(spec), starting.policy_of(spec)
        await self._runtime.wake(container, identity, binds, limits, policy, gate, self.terminal)

    async def _at_gate(self) -> None:
        """With the host's rights in its namespaces: the process that waits there has given up most of its own."""
        inside = self._inside()
        assert inside is not None and self.container is not None
        made = starting.files_at_gate(self.spec)
        root = self._adoption(self._image) if self._image else None
        if (made or root) and (failure := await self.hands.operate(made, inside, root)):
            raise StartFailed(failure)
        for phase in starting.AT_THE_GATE:
            await self._phase(phase)
        applying.set_rlimits(self.spec, [self.container.pid])

    def _adoption(self, image: Image) -> Adoption:
        stage = self.place.directory / "root"
        stage.mkdir(mode=0o700, exist_ok=True)
        assert self.container is not None
        try:
            mark(image, self.container.pid)
        except OSError as error:
            self._complain(f"its image stays only while this process lives: {error}")
        identity = starting.identity_of(self._resolved, self.record.id_base, self.container.address)
        files = {**user_files(APP_USER), **app_files(identity), "resolv.conf": usr.nameservers()}
        return Adoption(
            image=str(image.root),
            stage=str(stage),
            base=self.record.id_base,
            mounts=tuple((each.source, each.target, each.readonly) for each in starting.binds(self.spec)),
            targets=tuple(each.target for each in self.spec.mounts if isinstance(each, Tmpfs)),
            files={name: files[name] for name in starting.FILES_OF_ETC},
        )

    def _follow(self, container: Container) -> None:
        loop = asyncio.get_running_loop()
        self.executed = True
        loop.add_reader(container.pidfd, self._has_ended)
        if container.program is not None:
            loop.add_reader(container.program.pidfd, self._program_has_ended)

    def _program_has_ended(self) -> None:
        """PID 1 would pause on."""
        assert self.container is not None and self.container.program is not None
        asyncio.get_running_loop().remove_reader(self.container.program.pidfd)
        self.container.kill()

    def _has_ended(self) -> None:
        self._unfollow()
        for event in (self.ended, self._over, self._changed):
            event.set()

    def _unfollow(self) -> None:
        assert self.container is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.container.pidfd)
        if self.container.program is not None:
            loop.remove_reader(self.container.program.pidfd)

    def _watch_memory(self, container: Container) -> None:
        for hook in self.spec.cgroup_hooks:
            try:
                watch = self._watch(container, hook)
                self._watches.callback(watch.close)
                if hook.cause == "oom":
                    self._watches.callback(watch.look)
            except OSError as error:
                raise StartFailed(f"this host does not tell of memory {hook.cause}: {error}") from error

    def _watch(self, container: Container, hook: CgroupHook) -> events.Watch:
        def happened() -> None:
            self.told.aside(hook, hook.cause)

        if hook.cause == "oom":
            return events.watch_oom(container.group, happened)
        return events.watch_pressure(container.group, hook.level, happened)

    async def _unless_over(self, work: Coroutine[Any, Any, None]) -> None:
        """Given up when the container ends, or is told to, meanwhile. Raises what `work` raises; StartFailed if it ended."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, name="start")
        over = loop.create_task(self._over.wait(), name="over")
        try:
            await asyncio.wait({task, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            given_up = not task.done()
            for each in (task, over):
                each.cancel()
            await asyncio.wait({task, over})
        if not given_up:
            task.result()
        elif self._stop is None:
            raise StartFailed("it ended before it was ready")

    # ---- living

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        self._schedule = Schedule.start(self.spec.timers, loop.time())
        while not self._over.is_set():
            self._changed.clear()
            wait_s = min(self._expires_s(), (self._schedule.next_at() or _FOR_EVER) - loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout(None if wait_s == _FOR_EVER else max(0.0, wait_s)):
                    await self._changed.wait()
            due, self._schedule = self._schedule.due(loop.time())
            for timer in due:
                self.told.aside(timer, "timer")
            if self._expires_s() <= 0 and not self._over.is_set():
                self.say(f"{self.spec.name}: its lifespan is over")
                self.stop(self.spec.stop)

    def _expires_s(self) -> float:
        length_s = self.spec.lifespan.seconds
        return _FOR_EVER if length_s is None else self.record.started + length_s - time.time()

    def stop(self, how: Stop) -> None:
        """Asked for a second time it is killed at once."""
        if self._stop is not None and self.container is not None:
            self.container.kill()
        self._stop = how
        self._over.set()
        self._changed.set()

    async def checkpoint(self, moment: ImageMoment, *, leave_running: bool) -> str:
        """An image of it as it is now. Unless it is left running it ends with that. Raises Refused."""
        if self.record.status != "running" or self.container is None or self._over.is_set():
            raise control.Refused("it is not running yet, or no more")
        try:
            image = await checkpointing.take(
                self.place.settings, self.spec, self.record, self.container, moment, leave_running=leave_running
            )
        except (Unavailable, CriuFailed) as error:
            raise control.Refused(str(error)) from error
        if not leave_running:
            self._checkpointed = True
            self.stop(self.spec.stop)
            self.container.kill()
        return str(image.directory)

    async def reload(self) -> str:
        """Its definition as it is now, as far as it can be applied to what runs; the rest at the next start. Raises Refused."""
        if not self.files:
            raise control.Refused("its definition is in no file that could be read anew")
        if self.record.status != "running" or self.container is None or self._over.is_set():
            raise control.Refused("it is not running yet, or no more")
        try:
            definitions = load(self.files)
            spec = definitions.spec(self.spec.name)
        except (DefinitionError, OSError) as error:
            raise control.Refused(str(error)) from error
        changed = changes(self.spec, spec)
        applied = replace(self.spec, **{name: getattr(spec, name) for name in changed.now})
        if failure := await self.hands.load(definitions.texts, spec.name, tasks_of(applied)):
            raise control.Refused(failure)
        await self._apply(self.container, applied)
        await self._phase(Phase.AFTER_RELOAD)
        return changed.describe()

    async def _apply(self, container: Container, spec: ContainerSpec) -> None:
        before, self.spec = self.spec, spec
        try:
            container.group.set_limits(starting.limits_of(spec), before=starting.limits_of(before))
            applying.write_settings(container.group, spec)
            applying.set_rlimits(spec, container.group.processes())
            await self._runtime.set_policy(container, starting.policy_of(spec))
            self._watches.close()
            self._watch_memory(container)
        except (OSError, StartFailed) as error:
            raise control.Refused(str(error)) from error
        self._schedule = Schedule.start(spec.timers, asyncio.get_running_loop().time())
        self._changed.set()

    # ---- ending

    async def _end(self, *, failed: bool) -> None:
        container, how = self.container, self._stop or self.spec.stop
        if container is not None and self.executed:
            self._by_itself = self.ended.is_set()
            if not self._by_itself:
                self._record(status="stopping")
                if not failed:
                    await self._phase(Phase.BEFORE_STOP)
                    container.ask_to_stop(init=self.spec.init, number=how.signal)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(how.grace_s):
                            await self.ended.wait()
                container.kill()
                await self.ended.wait()
            self._exit_status = await self._runtime.exit_status(container)
        self._watches.close()
        await self.told.settle()

    def _outcome(self, failure: str) -> Outcome:
        status = self._exit_status
        code = 0 if status is None else os.waitstatus_to_exitcode(status)
        code = 128 - code if code < 0 else code
        if self._checkpointed:
            return Outcome(0)
        if failure:
            refused = self._runtime.exec_failure(self.container) if self.container is not None and self.executed else ""
            return Outcome(code if code and self._by_itself else 1, refused or failure)
        if code and self._stop is None:
            assert self.container is not None
            if self.container.group.oom_kills():
                return Outcome(code, "it used more memory than its limit, and the kernel killed it")
            return Outcome(code, f"it {process.describe_status(status)}")
        return Outcome(code)

    async def _destroy(self) -> None:
        if self._output is not None:
            self._output.close()
        if self.container is not None:
            self._unfollow()
            await self._runtime.destroy(self.container)
            self.container = None
