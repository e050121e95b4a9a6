"""Containers of this host, as the agent holds them: blanks made in reserve, woken with one message, followed and torn down.

    runtime = Runtime(config); await runtime.start()
    blank = await runtime.make_blank()                 # slow part: namespaces, network, cgroup; while nobody waits
    container = await runtime.wake(blank, identity, mounts, limits)
    container.signal(SIGTERM); await runtime.destroy(container)

Whatever blocks for milliseconds runs in one worker thread; the event loop only writes a few cgroup files and sends one message.
"""

import asyncio
import functools
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from containerlib import cgroups, dialogue, disks, kernel, process, seccomp
from containerlib.bind import BindMount
from containerlib.bootstrap import usr
from containerlib.cgroups import Group, IoLimits, Limits
from containerlib.firewall import USUAL, Firewall, NetworkPolicy
from containerlib.handle import USUAL_KIND, Container, Kind, Program, StartFailed
from containerlib.identity import Identity
from containerlib.launching import LauncherLine
from containerlib.network import Addresses, Network, Wire
from containerlib.plan import LOGS

# Of log output that waits for a reader. The kernel keeps 40 bytes for each page that a pipe could hold, empty as it may be.
PIPE_BYTES = 128 << 10
BLANK_LIMITS = Limits(cpu=1.0, pids=256)  # most will have these: then nothing is written while somebody waits
UNLINK_S, UNLINK_EVERY_S = 2.0, 0.01
KILL_S = 2.0
FINGERPRINT_EVERY_S = 30.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Config:
    run_dir: Path
    images: Path
    launcher_socket: str
    network: str
    cgroup: str
    controllers: tuple[str, ...] = ()  # of control groups, beyond those that limits of CPU, memory and processes need


@dataclass
class Runtime:
    config: Config
    on_launcher_lost: Callable[[], None] = lambda: None
    tree: cgroups.Tree = field(init=False)
    network: Network = field(init=False)
    firewall: Firewall = field(init=False)
    can_spawn: bool = field(default=False, init=False)
    maps_users: bool = field(default=False, init=False)
    _filter: int = field(default=-1, init=False)
    _worker: ThreadPoolExecutor = field(init=False)
    _launcher: LauncherLine = field(init=False)
    _slots: set[int] = field(default_factory=set, init=False)
    _policies: dict[str, NetworkPolicy] = field(
        default_factory=dict, init=False
    )  # by address, of those that are not usual
    _next_slot: int = field(default=0, init=False)
    _etc: tuple[float, Path] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._launcher = LauncherLine(self.config.launcher_socket, lambda: self.on_launcher_lost())

    @property
    def has_launcher(self) -> bool:
        return self._launcher.connected

    def connect_launcher(self) -> None:
        """Raises OSError when no launcher listens."""
        self._launcher.connect()

    async def start(self) -> None:
        """Raises OSError that says what this host lacks."""
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="runtime")
        self.can_spawn = process.exit_status_is_kept()
        self.maps_users = await self._blocking(_maps_users)
        self._filter = seccomp.memory_file(seccomp.compile_filter())
        self.tree = cgroups.find(self.config.cgroup, self.config.controllers)
        addresses = Addresses.parse(self.config.network)
        self.network = await self._blocking(Network, addresses)
        self.firewall = await self._blocking(Firewall, addresses.network)
        await self._blocking(self.network.set_up)
        await self._blocking(self.firewall.set_up, usr.nameserver_addresses())
        for directory in (self.config.run_dir / "slots", self.config.run_dir / "stage"):
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._next_slot = self.network.addresses.slots.start

    async def close(self) -> None:
        self._launcher.close()
        os.close(self._filter)
        await self._blocking(self.firewall.close)
        await self._blocking(self.network.close)
        self._worker.shutdown()

    # ---- blanks

    async def make_blank(
        self, slot: int | None = None, filter: bytes | None = None, kind: Kind = USUAL_KIND
    ) -> Container:
        """Raises OSError or StartFailed; nothing is left of a blank that failed. `slot`: the one that it must have, free and in the
        network. `filter`: of system calls, instead of everybody's (seccomp.compile_own)."""
        etc_image = await self.etc_image()
        if slot is None:
            slot = self._take_slot()
        else:
            self._slots.add(slot)
        group = await self._blocking(self.tree.create, str(slot))
        try:
            return await self._make_blank(slot, group, etc_image, filter, kind)
        except BaseException:
            if kind.restores is not None:  # CRIU, and what it had restored so far, are nobody's children yet
                await self._blocking(_kill_all, group)
            await self._remove_slot(slot)
            raise

    async def _make_blank(
        self, slot: int, group: Group, etc_image: Path, filter: bytes | None, kind: Kind
    ) -> Container:
        await self._blocking(group.set_limits, BLANK_LIMITS)
        readers, writers = self._make_fifos(slot)
        filter_fd = self._filter if filter is None else seccomp.memory_file(filter)
        try:
            pid, (control_fd, pidfd) = await self._launcher.ask(
                slot,
                group,
                etc_image,
                [*writers, filter_fd],
                mapped=self.maps_users,
                own_filter=filter is not None,
                kind=kind,
            )
        except BaseException:
            for fd in readers:
                os.close(fd)
            raise
        finally:
            for fd in (*writers, *((filter_fd,) if filter is not None else ())):
                os.close(fd)
        control = socket.socket(fileno=control_fd)
        control.setblocking(False)
        wire: Wire | None = None
        try:
            if kind.restores is not None:
                kind.restores(control, self._slot_dir(slot), self.network.addresses.of(slot))
            # Before it says so, its network namespace may still be the host's.
            if (first := await dialogue.expect_ready(control)) is not None:
                os.close(pidfd)
                pid, pidfd = process.pid_of(first), first
            wire = await self._blocking(self.network.connect, slot, pid)
        except BaseException:
            control.close()
            for fd in (*readers, pidfd):
                os.close(fd)
            if wire is not None:
                await self._blocking(self.network.disconnect, wire)
            raise
        started = process.start_time(pid) or 0
        return Container(
            slot,
            pid,
            pidfd,
            group,
            wire,
            readers,
            etc_image.name,
            started,
            control,
            own_filter=filter is not None,
            kind=kind,
        )

    async def etc_image(self) -> Path:
        """The current version, looked up again when the last look is old: apt may have changed what it is made of. Raises OSError
        where there is none yet and none can be made."""
        if self._etc is None or time.monotonic() - self._etc[0] > FINGERPRINT_EVERY_S:
            build = functools.partial(usr.build_etc, self.config.images, mapped=self.maps_users)
            try:
                image = await self._blocking(build)
            except OSError as error:
                if self._etc is None:
                    raise
                _log.warning("containers keep the /etc that they have: %s", error)
                image = self._etc[1]
            self._etc = (time.monotonic(), image)
        return self._etc[1]

    def _take_slot(self) -> int:
        slots = self.network.addresses.slots
        for _ in slots:
            slot = self._next_slot
            self._next_slot = slot + 1 if slot + 1 in slots else slots.start
            if slot not in self._slots:
                self._slots.add(slot)
                return slot
        raise OSError(
            f"all {len(slots)} addresses of {self.config.network} are in use; give this host a larger network"
        )

    def _slot_dir(self, slot: int) -> Path:
        return self.config.run_dir / "slots" / str(slot)

    def _make_fifos(self, slot: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """(readers, writers). The writers are O_RDWR, so that a container neither blocks at open nor dies with its reader."""
        directory = self._slot_dir(slot)
        directory.mkdir(mode=0o700)
        writers, readers = [], []
        for name in ("out", "err"):
            os.mkfifo(directory / name, 0o600)
            writers.append(os.open(directory / name, os.O_RDWR | os.O_CLOEXEC))
            with suppress(PermissionError):  # the user's pipes together may be at their limit: then 64 KiB must do
                kernel.set_pipe_size(writers[-1], PIPE_BYTES)
            readers.append(os.open(directory / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        return (readers[0], readers[1]), (writers[0], writers[1])

    # ---- waking

    async def wake(
        self,
        blank: Container,
        identity: Identity,
        mounts: tuple[BindMount, ...],
        limits: Limits,
        policy: NetworkPolicy = USUAL,
        at_gate: Callable[[], Awaitable[None]] | None = None,
        terminal: int | None = None,
    ) -> dict[str, float]:
        """Milliseconds by phase, once all that can be wrong before exec is behind it. Raises StartFailed; the blank is used up
        either way. What exec itself refuses ends the process, and `exec_failure` says why. `at_gate` is awaited, and may raise,
        when all files are in place and the process waits."""
        assert blank.control is not None
        if policy != USUAL:
            await self._grant(blank, policy)
        if blank.kind.dumpable is not None:
            identity, mounts = self._with_logs(blank, identity, mounts)
        marks = [("begin", time.perf_counter())]
        if at_gate is None and terminal is None:
            dialogue.send_identity(blank.control, replace(identity, spawn=self.can_spawn and not blank.own_filter))
        else:
            # A terminal's foreground group is its session's own: the program has to be the init's child, or the init itself.
            spawn = self.can_spawn and terminal is None and not blank.own_filter
            dialogue.send_identity(blank.control, replace(identity, spawn=spawn, gate=at_gate is not None), terminal)
        if mounts:
            dialogue.send_mounts(blank.control, mounts)
        marks.append(("mounts", time.perf_counter()))
        try:
            # While the blank finds out who it is, which takes it longer than this.
            blank.group.set_limits(limits, before=BLANK_LIMITS)
        except OSError as error:
            blank.kill()
            raise StartFailed(f"its limits cannot be set: {error}") from error
        marks.append(("cgroup", time.perf_counter()))
        if at_gate is not None:
            await dialogue.pass_gate(blank.control, at_gate)
            marks.append(("gate", time.perf_counter()))
        blank.program = await dialogue.expect_exec(blank.control)
        marks.append(("exec", time.perf_counter()))
        return {name: (at - before) * 1000 for (_, before), (name, at) in itertools.pairwise(marks)}

    async def let_go(self, restored: Container, limits: Limits, policy: NetworkPolicy, *, init: bool) -> None:
        """Of one that was restored and is wired, on to where `wake` ends. Raises StartFailed."""
        assert restored.control is not None
        if policy != USUAL:
            await self._grant(restored, policy)
        try:
            restored.group.set_limits(limits, before=BLANK_LIMITS)
        except OSError as error:
            raise StartFailed(f"its limits cannot be set: {error}") from error
        with suppress(ConnectionError):  # what it said of that is read next
            restored.control.send(b"go")
        await dialogue.expect_exec(restored.control)
        restored.control.close()
        restored.control = None
        if init and self.can_spawn:
            restored.program = _program_of(restored.pid)
            if restored.program is None:
                raise StartFailed("its program ended as soon as it was restored")

    def _with_logs(
        self, blank: Container, identity: Identity, mounts: tuple[BindMount, ...]
    ) -> tuple[Identity, tuple[BindMount, ...]]:
        """Its FIFOs by names in its own root: CRIU dumps no file that came from outside."""
        directory = self._slot_dir(blank.slot)
        logs = tuple(BindMount(str(directory / Path(each).name), each, False) for each in LOGS)
        return replace(identity, mounts=(*identity.mounts, *LOGS)), (*mounts, *logs)

    async def _grant(self, blank: Container, policy: NetworkPolicy) -> None:
        try:
            await self.set_policy(blank, policy)
        except OSError as error:
            raise StartFailed(f"its network policy cannot be set: {error}") from error

    async def set_policy(self, container: Container, policy: NetworkPolicy) -> None:
        """Instead of the one that it has; connections that it has already are not cut. Raises OSError."""
        before, container.policy = container.policy, policy
        self._policies[container.address] = policy
        await self._blocking(self.firewall.change, container.address, before, policy)
        if policy.bandwidth_bps != before.bandwidth_bps:
            await self._blocking(self.network.shape, container.wire, container.pid, policy.bandwidth_bps)

    async def limit_io(self, container: Container, wanted: IoLimits, sources: Iterable[str]) -> None:
        """On each disk that it can reach: those of its mounts' `sources`, and the one under our own files. Raises OSError."""
        await self._blocking(self._limit_io, container.group, wanted, tuple(sources))

    def _limit_io(self, group: Group, wanted: IoLimits, sources: tuple[str, ...]) -> None:
        places = (str(self.config.images), *sources)
        if not (found := disks.of(places)):
            raise OSError(f"nothing of {', '.join(places)} lies on a disk of this host; leave out io")
        group.set_io(dict.fromkeys(found, wanted))

    @staticmethod
    def exec_failure(container: Container) -> str:
        """Of a container that has ended: why it was never executed; empty if it was."""
        return dialogue.exec_failure(container)

    # ---- following and tearing down

    async def adopt(
        self, slot: int, pid: int, started: int, *, init: bool, policy: NetworkPolicy = USUAL
    ) -> Container | None:
        """A container of a former agent; None if it has ended. `init`: its PID 1 is not the program itself."""
        if process.start_time(pid) != started:
            return None
        directory, flags = self._slot_dir(slot), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        with ExitStack() as half_made:
            try:
                pidfd = os.pidfd_open(pid)
                half_made.callback(os.close, pidfd)
                wire = await self._blocking(self.network.window, slot, pid)
                half_made.callback(wire.diag.close)
                # The former agent may have died in the middle of a change.
                await self._blocking(self.network.shape, wire, pid, policy.bandwidth_bps)
                out = os.open(directory / "out", flags)
                half_made.callback(os.close, out)
                err = os.open(directory / "err", flags)
                half_made.callback(os.close, err)
            except (FileNotFoundError, ProcessLookupError):
                return None  # it has ended, or was being torn down; sweep takes the rest
            if process.start_time(pid) != started:  # the number was given to another process meanwhile
                return None
            half_made.pop_all()
        self._slots.add(slot)
        container = Container(slot, pid, pidfd, self.tree.group(str(slot)), wire, (out, err), "", started)
        if policy != USUAL:  # `sweep` sets what the firewall knows of it
            container.policy = self._policies[container.address] = policy
        if not (init and self.can_spawn):
            return container
        container.program = _program_of(pid)
        if container.program is None:
            await self.destroy(container)
            return None
        return container

    async def exit_status(self, container: Container) -> int | None:
        """Of a container whose pidfd says that it ended."""
        if container.program is not None:
            return process.wait_status(container.program.pidfd)
        told = await self._launcher.exit_status(container.pid)
        return process.wait_status(container.pidfd) if told is None else told

    async def destroy(self, container: Container) -> None:
        """Everything of it, dead or alive."""
        container.kill()
        container.close()
        await self._disconnect(container.wire)
        if self._policies.pop(container.address, None):
            await self._blocking(self.firewall.change, container.address, container.policy, USUAL)
        await self._remove_slot(container.slot)

    async def _disconnect(self, wire: Wire) -> None:
        """The kernel takes links along with their namespaces, many at once, and meanwhile nobody else's are delayed. To delete one
        takes as long, 10 to 30 ms, in which our worker could do nothing else."""
        wire.diag.close()  # it, too, would keep the namespace
        deadline = time.monotonic() + UNLINK_S
        while self.network.has_link(wire):
            if time.monotonic() > deadline:  # somebody keeps the namespace
                await self._blocking(self.network.disconnect, wire)
                return
            await asyncio.sleep(UNLINK_EVERY_S)

    async def sweep(self, kept: set[int]) -> set[int]:
        """Removes what a predecessor left: every slot of ours that is not kept. Returns the slots that it removed."""
        linked = await self._blocking(self.network.slots_in_use)
        named = {int(name) for name in self.tree.names() if name.isdigit()}
        files = {int(entry.name) for entry in (self.config.run_dir / "slots").iterdir() if entry.name.isdigit()}
        left = (linked | named | files) - kept
        await self._blocking(self.firewall.keep_only, self._policies)
        for slot in left:
            group = self.tree.group(str(slot))
            for pid in group.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            group.thaw()
            await self._blocking(self.network.disconnect_name, self.network.addresses.link(slot))
            try:
                await self._remove_slot(slot)
            except OSError as error:  # the next sweep may have more luck; an agent that cannot start helps nobody
                _log.warning("slot %d cannot be removed: %s", slot, error)
        return left

    async def remove_all(self) -> None:
        await self.sweep(set())
        await self._blocking(self.network.tear_down)
        await self._blocking(self.firewall.tear_down)
        await self._blocking(self.tree.remove)

    async def _remove_slot(self, slot: int) -> None:
        await self._blocking(self.tree.group(str(slot)).remove)
        directory = self._slot_dir(slot)
        for name in ("out", "err"):
            (directory / name).unlink(missing_ok=True)
        if directory.exists():
            directory.rmdir()
        self._slots.discard(slot)

    async def _blocking[T](self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)


def _maps_users() -> bool:
    """Tried by a program of its own: this process may have threads, and none of them may unshare."""
    program = "import os; os.unshare(os.CLONE_NEWUSER)"
    tried = subprocess.run([sys.executable, "-SIc", program], capture_output=True, text=True, check=False)
    if tried.returncode:
        reason = tried.stderr.strip().rpartition("\n")[2]
        _log.warning("no user namespaces, containers keep to plain user ids: %s", reason)
    return tried.returncode == 0


def _kill_all(group: Group) -> None:
    deadline = time.monotonic() + KILL_S
    while (pids := group.processes()) and time.monotonic() < deadline:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _program_of(init: int) -> Program | None:
    """Its oldest child that leads a process group, as what an ended program has left behind does not unless it asked for it."""
    for pid in sorted(process.children(init)):
        with suppress(ProcessLookupError):
            if os.getpgid(pid) == pid:
                return Program(os.pidfd_open(pid))
    return None
