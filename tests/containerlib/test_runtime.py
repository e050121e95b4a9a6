"""One suite over the real Runtime and the fake that stands for it in tests of the dispatcher."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from containerlib import launcher
from containerlib import runtime as runtime_module
from containerlib.bind import BindMount
from containerlib.cgroups import Limits
from containerlib.handle import StartFailed
from containerlib.identity import Identity
from containerlib.runtime import Config, Runtime
from tests.fakes.runtime import FakeContainer, FakeRuntime
from tests.plugins.compute import free_network, until

LIMITS = Limits(cpu=1.0, memory_bytes=64 << 20, pids=50)
SERVER = (
    "/usr/bin/python3", "-SIuc",
    "import signal, socket, sys; s = socket.create_server(('0.0.0.0', 80), backlog=7); print('up'); signal.pause()",
)  # fmt: skip


def program(container: FakeContainer) -> None:
    container.listen(80, backlog=7)
    os.write(container.stdout, b"up\n")


class Lab:
    """`Any`, for two runtimes that share no type: that they behave alike is what is tested here."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        self.made: list[Any] = []

    async def blank(self) -> Any:
        self.made.append(blank := await self.runtime.make_blank())
        return blank

    async def wake(self, *command: str) -> Any:
        container = await self.blank()
        self.phases = await self.runtime.wake(container, Identity("blog", 200_001, command or SERVER), (), LIMITS)
        return container

    async def ended(self, container: Any) -> None:
        """PID 1 outlives a program that it did not start: whoever follows the two ends it."""
        if container.program:
            await self._ended(container.program.pidfd)
            container.kill()
        await self._ended(container.pidfd)

    async def _ended(self, pidfd: int) -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, ended.set)
        async with asyncio.timeout(5):
            await ended.wait()
        asyncio.get_running_loop().remove_reader(pidfd)

    async def destroy(self, container: Any) -> None:
        self.made.remove(container)
        await self.runtime.destroy(container)


async def real(directory: Path) -> AsyncIterator[Lab]:
    config = Config(
        directory, directory / "images", str(directory / "launcher.sock"), free_network(), f"fctest-{directory.name}"
    )
    runtime = Runtime(config)
    await runtime.start()
    command = [sys.executable, "-SI", launcher.__file__, config.launcher_socket, str(directory / "stage")]
    process = await asyncio.create_subprocess_exec(*command)
    await until(lambda: Path(config.launcher_socket).exists() and connects(runtime))
    yield Lab(runtime)
    await runtime.remove_all()
    await runtime.close()
    process.kill()
    await process.wait()


def connects(runtime: Runtime) -> bool:
    try:
        runtime.connect_launcher()
    except OSError:
        return False
    return True


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.system)])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    if request.param == "fake":
        runtime = FakeRuntime()
        runtime.programs["blog"] = program
        lab = Lab(runtime)
        yield lab
        for container in list(lab.made):
            await lab.destroy(container)
        return
    with tempfile.TemporaryDirectory(prefix="fc-") as directory:
        os.chmod(directory, 0o755)  # noqa: PTH101
        async for lab in real(Path(directory)):
            yield lab
            for container in list(lab.made):
                await lab.destroy(container)


async def test_a_blank_has_all_that_is_slow(lab: Lab) -> None:
    blank, other = await lab.blank(), await lab.blank()
    assert blank.slot != other.slot
    assert blank.address != other.address
    assert blank.etc_image
    assert blank.wire.diag.listening() == blank.wire.diag.established() == []
    assert len(blank.group.directories()) >= 1
    assert (blank.group.oom_kills(), blank.group.pids_refused()) == (0, 0)


async def test_a_blank_wakes_and_is_seen_to_listen(lab: Lab) -> None:
    container = await lab.wake()
    assert set(lab.phases) == {"cgroup", "mounts", "exec"}
    await until(lambda: container.wire.diag.listening())
    (listener,) = container.wire.diag.listening()
    assert (listener.local_port, listener.local, listener.queue_max) == (80, "0.0.0.0", 7)
    await until(lambda: readable(container.logs[0]))
    assert os.read(container.logs[0], 100) == b"up\n"


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_signal_ends_it_and_how_is_known(lab: Lab, number: signal.Signals) -> None:
    container = await lab.wake()
    await until(lambda: container.wire.diag.listening())
    stop(container, number)
    await lab.ended(container)
    status = await lab.runtime.exit_status(container)
    # An init tells of a signal by 128 + its number.
    assert status in (number, (128 + number) << 8)
    stop(container, number)  # one that is no more: harmless
    await lab.destroy(container)


def stop(container: Any, number: signal.Signals) -> None:
    if number is signal.SIGKILL:
        container.kill()
    else:
        container.ask_to_stop(init=True)


async def frozen(lab: Lab) -> Any:
    container = await lab.wake()
    await until(lambda: container.wire.diag.listening())
    container.group.freeze()
    await until(container.group.is_frozen)
    return container


async def test_a_frozen_one_listens_on_and_is_thawed(lab: Lab) -> None:
    container = await frozen(lab)
    assert container.wire.diag.listening()
    container.group.thaw()
    assert not container.group.is_frozen()
    container.group.thaw()  # one that is not frozen: harmless


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_signal_ends_a_frozen_one_too(lab: Lab, number: signal.Signals) -> None:
    container = await frozen(lab)
    stop(container, number)
    await lab.ended(container)
    assert await lab.runtime.exit_status(container) in (number, (128 + number) << 8)


async def test_a_frozen_one_can_be_destroyed(lab: Lab) -> None:
    container = await frozen(lab)
    await lab.destroy(container)
    assert not any(directory.exists() for directory in container.group.directories())


async def test_of_a_frozen_ones_memory_what_is_on_disk_can_be_taken_back(lab: Lab) -> None:
    container = await lab.wake()
    await until(lambda: container.wire.diag.listening())
    with page_cache_of(container):
        container.group.freeze()
        await until(container.group.is_frozen)
        before = container.group.memory_bytes()
        assert container.group.reclaim(4 << 20) > 2 << 20
        assert container.group.memory_bytes() < before - (2 << 20)
    container.group.thaw()


@contextmanager
def page_cache_of(container: Any) -> Iterator[None]:
    """8 MiB: a process that enters its group writes a file, whose pages are the group's from then on, and ends."""
    if isinstance(container, FakeContainer):
        container.group.page_cache = 8 << 20
        yield
        return
    program = (
        "import os, sys; [open(path, 'w').write('0') for path in sys.argv[2:]]; file = open(sys.argv[1], 'wb');"
        "file.write(bytes(8 << 20)); file.flush(); os.fsync(file)"
    )
    groups = [str(directory / "cgroup.procs") for directory in container.group.directories()]
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:  # not /tmp, which may be in memory
        subprocess.run([sys.executable, "-SIc", program, file.name, *groups], check=True)
        yield


@pytest.mark.system
@pytest.mark.parametrize("lab", ["real"], indirect=True)
async def test_a_predecessors_frozen_ones_are_swept(lab: Lab) -> None:
    left = await frozen(lab)
    lab.made.remove(left)
    if left.program:
        os.close(left.program.pidfd)
        left.program = None
    left.close()
    left.wire.diag.close()
    assert left.slot in await lab.runtime.sweep({each.slot for each in lab.made})
    assert not any(directory.exists() for directory in left.group.directories())


async def test_a_container_is_adopted_by_what_names_its_process_for_good(lab: Lab) -> None:
    container = await lab.wake()
    assert await lab.runtime.adopt(container.slot, container.pid, container.start_time + 1, init=True) is None
    assert await lab.runtime.adopt(container.slot, container.pid + 1, container.start_time, init=True) is None
    adopted = await lab.runtime.adopt(container.slot, container.pid, container.start_time, init=True)
    assert (adopted.slot, adopted.pid, adopted.address) == (container.slot, container.pid, container.address)
    if adopted is not container:
        adopted.wire.diag.close()
        adopted.close()


@pytest.mark.system
@pytest.mark.parametrize("lab", ["real"], indirect=True)
async def test_on_a_kernel_that_keeps_no_exit_status_the_init_starts_the_program(lab: Lab) -> None:
    lab.runtime.can_spawn = False
    container = await lab.wake()
    assert container.program is None
    await until(lambda: container.wire.diag.listening())
    container.ask_to_stop(init=True)
    await lab.ended(container)
    assert await lab.runtime.exit_status(container) == (128 + signal.SIGTERM) << 8
    failed = await lab.wake("sh", "-c", "exit 7")
    await lab.ended(failed)
    assert await lab.runtime.exit_status(failed) == 7 << 8


def descriptors() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


@pytest.mark.system
@pytest.mark.parametrize("lab", ["real"], indirect=True)
async def test_a_container_that_was_half_torn_down_is_not_adopted_and_leaves_no_descriptor(lab: Lab) -> None:
    container = await lab.wake()
    (lab.runtime.config.run_dir / "slots" / str(container.slot) / "err").unlink()
    before = descriptors()
    assert await lab.runtime.adopt(container.slot, container.pid, container.start_time, init=True) is None
    assert descriptors() == before


async def test_a_blank_that_died_in_reserve_cannot_be_woken(lab: Lab) -> None:
    blank = await lab.blank()
    blank.kill()
    await lab.ended(blank)
    with pytest.raises(StartFailed):
        await lab.runtime.wake(blank, Identity("blog", 200_001, SERVER), (), LIMITS)


async def test_of_what_is_destroyed_nothing_is_left(lab: Lab) -> None:
    container = await lab.wake()
    await lab.destroy(container)
    assert not any(directory.exists() for directory in container.group.directories())


@pytest.mark.system
@pytest.mark.parametrize("lab", ["real"], indirect=True)
async def test_what_the_fake_need_not_know(lab: Lab) -> None:
    runtime = lab.runtime
    assert isinstance(runtime, Runtime)
    missing = await lab.blank()
    with pytest.raises(StartFailed, match="mount source '/no/such' does not exist"):
        await runtime.wake(
            missing, Identity("a", 1, SERVER, mounts=("/a",)), (BindMount("/no/such", "/a", True),), LIMITS
        )
    long = await lab.blank()
    with pytest.raises(StartFailed, match="at most 200000 fit"):
        await runtime.wake(long, Identity("a", 1, ("x" * 300_000,)), (), LIMITS)
    # A predecessor's slots that nobody kept.
    kept = await lab.wake()
    left = await lab.blank()
    left.close()
    left.wire.diag.close()
    lab.made.remove(left)
    assert left.slot in await runtime.sweep({each.slot for each in lab.made})
    assert not any(directory.exists() for directory in left.group.directories())
    assert kept.wire.diag.listening() is not None
    # Addresses are handed out anew only when they are free again.
    slots = {(await lab.blank()).slot for _ in range(3)}
    assert not slots & {kept.slot, missing.slot, long.slot}


def link_of(lab: Lab, container: Any) -> Path:
    return Path("/sys/class/net", lab.runtime.network.addresses.link(container.slot))


@pytest.mark.system
@pytest.mark.parametrize("lab", ["real"], indirect=True)
async def test_a_link_goes_with_its_namespace_without_being_asked(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    container = await lab.blank()
    asked: list[object] = []
    monkeypatch.setattr(lab.runtime.network, "disconnect", asked.append)
    assert link_of(lab, container).exists()
    await lab.destroy(container)
    assert not asked
    assert not link_of(lab, container).exists()


@pytest.mark.system
@pytest.mark.parametrize("lab", ["real"], indirect=True)
async def test_a_link_whose_namespace_somebody_keeps_is_deleted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    container = await lab.blank()
    monkeypatch.setattr(runtime_module, "UNLINK_S", 0.05)
    kept = os.open(f"/proc/{container.pid}/ns/net", os.O_RDONLY)
    await lab.destroy(container)
    assert not link_of(lab, container).exists()
    os.close(kept)
