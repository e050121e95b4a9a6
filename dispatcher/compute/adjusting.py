"""What of an app changes while it runs, and those limits that take the kernel milliseconds: of the network, of the disks.

await adjusting.limit_io(life)          # before its program runs
adjusting.resize(life, app)             # to what is wanted now
adjusting.again(life)                   # of one that a former agent may have been changing when it died
"""

import msgspec

from containerlib.handle import StartFailed
from containerlib.runtime import Runtime
from dispatcher.compute.journal import Journal
from dispatcher.compute.life import Life, Listener
from dispatcher.compute.policies import io_limits, network_policy
from dispatcher.domain import App, Io, Status
from dispatcher.tasks import Tasks

LIVE = ("bandwidth_bps", "io")  # of a spec: what changes under a program that runs


def must_restart(app: App, old: App) -> bool:
    """It differs in what only a new process can take in; the policy is read anew at each decision, `front` is the UserLB's.
    Pure."""
    live = {name: getattr(old.spec, name) for name in ("policy", "front", *LIVE)}
    return msgspec.structs.replace(app.spec, **live) != old.spec or app.uid != old.uid


class Adjusting:
    def __init__(self, runtime: Runtime, journal: Journal, tasks: Tasks, listener: Listener) -> None:
        self._runtime = runtime
        self._journal = journal
        self._tasks = tasks
        self._listener = listener

    async def limit_io(self, life: Life) -> None:
        """Nothing for who does not ask. Raises StartFailed."""
        if life.app.spec.io == Io():
            return
        try:
            await self._set_io(life)
        except OSError as error:
            raise StartFailed(f"its io cannot be limited: {error}") from error

    def resize(self, life: Life, app: App) -> None:
        """Raises OSError where the kernel refuses (a memory limit below what is in use)."""
        before, life.app = life.app, app
        if life.handle is None:
            return
        if app.cpu != before.cpu and life.status is not Status.STARTING:
            life.handle.group.set_cpu(app.cpu)
        if app.memory_bytes != before.memory_bytes:
            try:
                life.handle.group.set_memory(app.memory_bytes)
            except OSError:
                life.handle.group.set_memory(before.memory_bytes)
                raise
        self._journal.write(life.record())
        if any(getattr(app.spec, name) != getattr(before.spec, name) for name in LIVE):
            self._start(life, io=app.spec.io != before.spec.io)

    def again(self, life: Life) -> None:
        assert life.handle is not None
        if life.app.spec.io != Io() or life.handle.group.has_io():
            self._start(life, io=True)

    def _start(self, life: Life, *, io: bool) -> None:
        self._tasks.start(self._readjust(life, io=io), name=f"readjust {life.name}")

    async def _readjust(self, life: Life, *, io: bool) -> None:
        assert life.handle is not None
        try:
            await self._runtime.set_policy(life.handle, network_policy(life.app.spec))
            if io:
                await self._set_io(life)
        except OSError as error:
            if not life.ended.is_set():
                self._listener.tell(life, "refused", f"the kernel refused its new limits: {error}")

    async def _set_io(self, life: Life) -> None:
        assert life.handle is not None
        spec = life.app.spec
        await self._runtime.limit_io(life.handle, io_limits(spec), (mount.source for mount in spec.mounts))
