"""The functions of a definition beside a life: phases, timers, the kernel's memory events. Run by the helper, decided here.

A site that sleeps has none of it: it is made when a life starts, its one timer rests while the life is frozen, and it goes with it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack

from containerlib.cgroups import events
from containerlib.handle import StartFailed
from containerlib.hooks import CgroupHook, Moment, Phase
from containerlib.schedule import Schedule
from containerlib.spec import ContainerSpec
from containerlib.standalone.hands import Inside
from containerlib.standalone.telling import Runs, Telling
from dispatcher.compute.life import Life


class Hooked:
    """`say` hears of what failed and aborts nothing."""

    def __init__(self, life: Life, definition: ContainerSpec, helper: Runs, say: Callable[[str], None]) -> None:
        self._life = life
        self.definition = definition
        self._telling = Telling(life.name, helper, say, self._moment, self._inside)
        self._schedule = Schedule()
        self._timer: asyncio.TimerHandle | None = None
        self._watches = ExitStack()

    def _moment(self, cause: str) -> Moment:
        handle, definition = self._life.handle, self.definition
        if handle is None:
            return Moment(self._life.app.name, str(cause), hostname=self._hostname, metadata=dict(definition.metadata))
        groups = tuple(str(directory) for directory in handle.group.directories())
        where = (handle.pid, handle.address, self._hostname, groups)
        return Moment(self._life.app.name, str(cause), *where, dict(definition.metadata))

    @property
    def _hostname(self) -> str:
        return self.definition.hostname or self._life.app.name

    def _inside(self) -> Inside | None:
        handle = self._life.handle
        if handle is None or self._life.ended.is_set():
            return None
        return Inside(handle.pidfd, handle.group.entrances())

    async def phases(self, phases: Iterable[Phase], *, exit_status: int | None = None, failure: str = "") -> None:
        """Raises StartFailed where a hook that may abort has failed. An app without hooks of them waits for nothing."""
        for phase in phases:
            await self._telling.phase(self.definition.hooks, phase, exit_status=exit_status, failure=failure)

    def watch_memory(self) -> None:
        """Raises StartFailed."""
        assert self._life.handle is not None
        for hook in self.definition.cgroup_hooks:
            try:
                self._watch(hook)
            except OSError as error:
                raise StartFailed(f"this host does not tell of memory {hook.cause}: {error}") from error

    def _watch(self, hook: CgroupHook) -> None:
        assert self._life.handle is not None
        group = self._life.handle.group

        def happened() -> None:
            self._telling.aside(hook, hook.cause)

        if hook.cause == "oom":
            watch = events.watch_oom(group, happened)
            self._watches.callback(watch.close)
            self._watches.callback(watch.look)  # before it is closed
        else:
            self._watches.callback(events.watch_pressure(group, hook.level, happened).close)

    # ---- timers

    def start_timers(self, since_s: float = 0.0) -> None:
        """`since_s`: how long ago it became ready. What was due since then has run, or is past."""
        now = time.monotonic()
        self._schedule = Schedule.start(self.definition.timers, now - since_s)
        if since_s:
            _, self._schedule = self._schedule.due(now)
        self._arm()

    def _arm(self) -> None:
        self.rest()
        at = self._schedule.next_at()
        if at is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - time.monotonic()), self._due)

    def _due(self) -> None:
        due, self._schedule = self._schedule.due(time.monotonic())
        for timer in due:
            self._telling.aside(timer, "timer")
        self._arm()

    def rest(self) -> None:
        """While it is frozen: none of its timers runs; what was due meanwhile runs once when it is thawed."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        self._arm()

    # ---- changes and the end

    async def reload(self, definition: ContainerSpec) -> None:
        """Its functions were read anew. Timers begin again."""
        self.definition = definition
        self._watches.close()
        self.watch_memory()
        self.start_timers()
        await self.phases((Phase.AFTER_RELOAD,))

    async def end(self, failure: str, exit_status: int | None, destroy: Callable[[], Awaitable[None]]) -> None:
        """Around `destroy`, which takes away what is left of its container."""
        self.rest()
        self._watches.close()
        await self._telling.settle()
        if failure:
            await self.phases((Phase.AFTER_FAILURE,), exit_status=exit_status, failure=failure)
        await self.phases((Phase.TEARDOWN_CONTAINER,), exit_status=exit_status, failure=failure)
        await destroy()
        await self.phases((Phase.TEARDOWN,), exit_status=exit_status, failure=failure)

    def close(self) -> None:
        """The agent ends, its container does not."""
        self.rest()
        self._watches.close()
