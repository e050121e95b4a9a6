"""containerlib's Runtime without a kernel: what lives.py and pool.py ask of it, kept by a fake that a test steers.

    runtime = FakeRuntime()
    container = await runtime.make_blank()
    runtime.programs["blog"] = lambda container: container.listen(80)       # what `blog` does once it is executed
    container.end(9)                                                         # its wait status

tests/containerlib/test_runtime.py runs one suite over this and the real one.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from containerlib.bind import BindMount
from containerlib.cgroups import IoLimits, Limits
from containerlib.firewall import USUAL, NetworkPolicy
from containerlib.handle import USUAL_KIND, Program, StartFailed
from containerlib.identity import Identity
from containerlib.sockdiag import TCP_ESTABLISHED, TCP_LISTEN, TcpSocket

HOST = "100.96.0.1"
NO_PROCESS = 2**22 + 1  # a number that no process has
NO_LIMITS = Limits()


@dataclass
class FakeDiag:
    ports: dict[int, tuple[str, int]] = field(default_factory=dict)  # port: address, backlog
    connections: list[TcpSocket] = field(default_factory=list)

    def listening(self) -> list[TcpSocket]:
        return [
            TcpSocket(TCP_LISTEN, address, port, "0.0.0.0", 0, backlog, 0)
            for port, (address, backlog) in self.ports.items()
        ]

    def established(self) -> list[TcpSocket]:
        return list(self.connections)

    def connect(self, local: str, local_port: int, remote: str, remote_port: int = 40_000) -> None:
        self.connections.append(TcpSocket(TCP_ESTABLISHED, local, local_port, remote, remote_port, 0, 0))

    def close(self) -> None:
        self.ports = {}


@dataclass
class FakeWire:
    slot: int
    address: str
    diag: FakeDiag = field(default_factory=FakeDiag)


@dataclass
class FakeGroup:
    name: str
    limits: Limits = NO_LIMITS
    history: list[Limits] = field(default_factory=list)
    killed_for_memory: int = 0
    forks_refused: int = 0
    memory_in_use: int = 0
    page_cache: int = 0  # that `reclaim` takes
    frozen: bool = False
    not_freezing: OSError | None = None  # what the kernel says to `freeze`
    not_thawing: OSError | None = None
    stays_awake: bool = False  # one that waits for a disk, and does not freeze
    freezes: int = 0
    io: IoLimits | None = None
    on_thaw: Callable[[], None] = lambda: None

    def freeze(self) -> None:
        if self.not_freezing:
            raise self.not_freezing
        self.frozen = True
        self.freezes += 1

    def thaw(self) -> None:
        if self.not_thawing:
            raise self.not_thawing
        if self.frozen:
            self.frozen = False
            self.on_thaw()

    def is_frozen(self) -> bool:
        return self.frozen and not self.stays_awake

    def processes(self) -> list[int]:
        return []

    def memory_bytes(self) -> int:
        return self.memory_in_use + self.page_cache

    def reclaim(self, amount_bytes: int) -> int:
        freed = min(amount_bytes, self.page_cache)
        self.page_cache -= freed
        return freed

    def _set(self, limits: Limits) -> None:
        self.limits = limits
        self.history.append(limits)

    def set_cpu(self, cpu: float | None) -> None:
        self._set(replace(self.limits, cpu=cpu))

    def set_memory(self, amount_bytes: int | None) -> None:
        if amount_bytes is not None and amount_bytes < self.memory_in_use:
            raise OSError(16, "Device or resource busy")
        self._set(replace(self.limits, memory_bytes=amount_bytes))

    def set_limits(self, wanted: Limits) -> None:
        self._set(wanted)

    def has_io(self) -> bool:
        return self.io is not None

    def oom_kills(self) -> int:
        return self.killed_for_memory

    def pids_refused(self) -> int:
        return self.forks_refused

    def entrances(self) -> tuple[str, ...]:
        return ()

    def directories(self) -> tuple[Path, ...]:
        return (Path("/sys/fs/cgroup/fake") / self.name,)


class FakeContainer:
    """Its pidfd is the reading end of a pipe: readable once the process has ended, like a real one."""

    def __init__(self, slot: int, etc_image: str) -> None:
        self.slot = slot
        self.pid = NO_PROCESS + slot
        self.start_time = 1000 + slot
        self.etc_image = etc_image
        self.kind = USUAL_KIND
        self.group = FakeGroup(str(slot))
        self.wire = FakeWire(slot, f"100.96.{slot >> 8}.{slot & 255}")
        self.pidfd, self._life = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        out, err = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK), os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.logs = (out[0], err[0])
        self.stdout, self.stderr = out[1], err[1]
        self.identity: Identity | None = None
        self.mounts: tuple[BindMount, ...] = ()
        self.policy = USUAL
        self.status: int | None = None
        self.is_dead = False
        self.is_closed = False
        self.program: Program | None = None
        self.signals: list[signal.Signals] = []
        self.on_stop: Callable[[], None] = lambda: self.end(signal.SIGTERM)
        self.group.on_thaw = self._thawed
        self._pending: list[signal.Signals] = []
        self._dies_frozen = False

    @property
    def address(self) -> str:
        return self.wire.address

    def listen(self, port: int = 80, address: str = "0.0.0.0", backlog: int = 128) -> None:
        self.wire.diag.ports[port] = (address, backlog)

    def end(self, status: int | None) -> None:
        if not self.is_dead:
            self.is_dead, self.status = True, status
            self.wire.diag.close()
            for fd in (self.stdout, self.stderr, self._life):
                os.close(fd)

    def signal(self, number: signal.Signals) -> None:
        if self.is_dead:
            return
        self.signals.append(number)
        if self.group.frozen and not self._dies_frozen:  # as with cgroup v1, SIGKILL included
            self._pending.append(number)
            return
        if number is signal.SIGKILL:
            self.end(number)
        else:
            self.on_stop()

    def _thawed(self) -> None:
        pending, self._pending = self._pending, []
        self._dies_frozen = True
        for number in pending:
            self.signals.remove(number)
            self.signal(number)
        self._dies_frozen = False

    def was_killed(self) -> bool:
        return self.is_dead or signal.SIGKILL in self._pending

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._thaw()

    def ask_to_stop(self, *, init: bool) -> None:
        self.signal(signal.SIGTERM)
        self._thaw()

    def _thaw(self) -> None:
        try:
            self.group.thaw()
        except OSError:
            self._thawed()  # with cgroup v2 it dies all the same

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True
        for fd in (self.pidfd, *self.logs):
            os.close(fd)


Script = Callable[[FakeContainer], None]


def _serve(container: FakeContainer) -> None:
    container.listen(80)


class _Network:
    class addresses:
        host = HOST


class FakeRuntime:
    network = _Network
    maps_users = True

    def __init__(self) -> None:
        self.programs: dict[str, Script] = {}
        self.containers: dict[int, FakeContainer] = {}  # that exist, by slot
        self.woken: list[FakeContainer] = []
        self.failing: BaseException | None = None  # makes blanks fail
        self.refused = 0  # blanks that did
        self.refusing: BaseException | None = None  # makes waking fail
        self.image = "etc-1"
        self._last_slot = 1

    async def make_blank(self) -> FakeContainer:
        if self.failing:
            self.refused += 1
            raise self.failing
        self._last_slot += 1
        container = FakeContainer(self._last_slot, self.image)
        self.containers[container.slot] = container
        return container

    async def wake(
        self,
        blank: FakeContainer,
        identity: Identity,
        mounts: tuple[BindMount, ...],
        limits: Limits,
        policy: NetworkPolicy = USUAL,
        at_gate: Callable[[], Awaitable[None]] | None = None,
    ) -> dict[str, float]:
        blank.group.set_limits(limits)
        if blank.is_dead:
            raise StartFailed("the prepared process is gone")
        if self.refusing:
            blank.end(127 << 8)
            raise self.refusing
        blank.identity, blank.mounts, blank.policy = identity, mounts, policy
        self.woken.append(blank)
        await asyncio.sleep(0)  # the real one always has to hear from the blank
        self.programs.get(identity.hostname, _serve)(blank)
        return {"cgroup": 0.1, "mounts": 0.2, "exec": 0.3}

    async def set_policy(self, container: FakeContainer, policy: NetworkPolicy) -> None:
        container.policy = policy

    async def limit_io(self, container: FakeContainer, wanted: IoLimits, sources: Iterable[str]) -> None:
        container.group.io = wanted

    def exec_failure(self, container: FakeContainer) -> str:
        return ""

    async def adopt(
        self, slot: int, pid: int, started: int, *, init: bool, policy: NetworkPolicy = USUAL
    ) -> FakeContainer | None:
        container = self.containers.get(slot)
        if container is None or container.is_dead or (container.pid, container.start_time) != (pid, started):
            return None
        container.policy = policy
        return container

    async def exit_status(self, container: FakeContainer) -> int | None:
        return container.status

    async def destroy(self, container: FakeContainer) -> None:
        container.kill()
        container.close()
        del self.containers[container.slot]
