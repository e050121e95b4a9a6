"""Programs halted right before a system call, dumped there, and restored as often as wanted."""

import asyncio
import json
import platform
from pathlib import Path
from signal import Signals

import pytest

from containerlib import profiles, seccomp
from containerlib.checkpoint import criu, dumping, halting, restoring
from containerlib.checkpoint.dumping import Facts
from containerlib.checkpoint.halting import NotHalted
from containerlib.checkpoint.images import Moment
from containerlib.checks import SpecError
from containerlib.handle import Container, Kind
from containerlib.identity import Identity
from containerlib.spec import Seccomp
from tests.containerlib.checkpoint.test_dumping import BASE, LIMITS, answer
from tests.containerlib.test_runtime import Lab
from tests.plugins.compute import until

pytestmark = pytest.mark.system

# It says how many signals came before it listened.
PYTHON = """
import os, signal, socket, threading
told = 0
def tell(*_):
    global told
    told += 1
signal.signal(signal.SIGUSR1, tell)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(('0.0.0.0', 80))
WHERE
early = told
while True:
    peer, _ = listener.accept()
    peer.sendall(f'{early} {socket.gethostname()}'.encode())
    peer.close()
"""
BY_ITSELF = PYTHON.replace("WHERE", "listener.listen()")
IN_A_THREAD = PYTHON.replace("WHERE", "other = threading.Thread(target=listener.listen); other.start(); other.join()")
IN_A_CHILD = PYTHON.replace("WHERE", "os.fork() and os.wait(); listener.listen()")
PHP = (
    "$socket = stream_socket_server('tcp://0.0.0.0:80');"
    "while ($peer = stream_socket_accept($socket, -1)) { fwrite($peer, '1 ' . gethostname()); fclose($peer); }"
)
PROGRAMS = {
    "python": ("/usr/bin/python3", "-SIuc", BY_ITSELF),
    "thread": ("/usr/bin/python3", "-SIuc", IN_A_THREAD),
    "child": ("/usr/bin/python3", "-SIuc", IN_A_CHILD),
}


async def blank(lab: Lab) -> Container:
    made: Container = await lab.runtime.make_blank(kind=Kind(dumpable=BASE))
    lab.made.append(made)
    return made


async def wake(lab: Lab, container: Container, *command: str, init: bool = True) -> None:
    identity = Identity("web", BASE, command, address=container.address, init=init)
    await lab.runtime.wake(container, identity, (), LIMITS)


def listens(container: Container) -> bool:
    lines = Path(f"/proc/{container.pid}/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[3] == "0A" for line in lines)


def tracers(container: Container) -> set[int]:
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in container.group.processes()]
    return {int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("TracerPid:")}


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def has_link(container: Container) -> bool:
    return Path(f"/proc/{container.pid}/root/tmp/link").is_symlink()


def facts(*, init: bool) -> Facts:
    return Facts("web", Moment.HALTED, "digest", BASE, init)


@pytest.mark.parametrize(("program", "init"), [("python", True), ("thread", False), ("child", True)])
async def test_an_image_is_taken_before_it_listens(lab: Lab, tmp_path: Path, program: str, init: bool) -> None:
    """Told of the restore before it listens, whichever of its processes and threads does that; no child of it is told."""
    cold = await blank(lab)
    async with halting.following(cold.pid, "listen") as following:
        await wake(lab, cold, *PROGRAMS[program], init=init)
        await following.halted()
    assert not listens(cold)
    assert tracers(cold) == {0}
    image = await dumping.dump(criu.find(), cold, facts(init=init), tmp_path, leave_running=True)
    assert await answer(cold) == "0 web"
    await lab.destroy(cold)
    early = "0" if program == "child" else "1"
    for name in ("one", "two"):
        who = restoring.Who(name, (), LIMITS, signal=Signals.SIGUSR1)
        restored = await restoring.restore(lab.runtime, criu.find(), image, who)
        lab.made.append(restored)
        assert await answer(restored) == f"{early} {name}"


async def test_php_too(lab: Lab, tmp_path: Path) -> None:
    cold = await blank(lab)
    async with halting.following(cold.pid, "listen") as following:
        await wake(lab, cold, "php", "-r", PHP)
        await following.halted()
    assert not listens(cold)
    image = await dumping.dump(criu.find(), cold, facts(init=True), tmp_path, leave_running=False)
    await lab.destroy(cold)
    restored = await restoring.restore(lab.runtime, criu.find(), image, restoring.Who("other", (), LIMITS))
    lab.made.append(restored)
    assert await answer(restored) == "1 other"


async def test_a_filter_that_kills_for_what_it_does_not_know_does_not_kill_for_that(lab: Lab) -> None:
    """The call that is taken away has no number while the filter looks at it."""
    killing = json.dumps({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [{"names": [*seccomp.ALLOWED, "clone", "clone3", "socket"], "action": "SCMP_ACT_ALLOW"}],
    })  # fmt: skip
    wanted = Seccomp("/profile.json", dangerous=("clone", "clone3", "socket"))
    filter = seccomp.compile_own(wanted, profiles.parse(killing))
    container: Container = await lab.runtime.make_blank(filter=filter, kind=Kind(dumpable=BASE))
    lab.made.append(container)
    async with halting.following(container.pid, "listen") as following:
        await wake(lab, container, *PROGRAMS["python"], init=False)
        await following.halted()
    dumping.resume(container)
    assert await answer(container) == "0 web"


async def test_before_any_call_of_any_process_of_it(lab: Lab) -> None:
    container = await blank(lab)
    async with halting.following(container.pid, "symlinkat") as following:
        await wake(lab, container, "sh", "-c", "true; ln -s x /tmp/link; sleep 100")
        halted = await following.halted()
    assert name_of(halted) == "ln"
    assert not has_link(container)
    dumping.resume(container)
    await until(lambda: has_link(container))


async def test_one_that_ends_without_the_call(lab: Lab) -> None:
    container = await blank(lab)
    async with halting.following(container.pid, "listen") as following:
        await wake(lab, container, "true", init=False)
        with pytest.raises(NotHalted, match=r"ended without a call of listen"):
            await following.halted()


async def test_it_runs_on_when_nobody_waits_any_more(lab: Lab) -> None:
    container = await blank(lab)
    async with halting.following(container.pid, "symlinkat"):
        await wake(lab, container, *PROGRAMS["python"])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.Event().wait()
    assert await answer(container) == "0 web"
    assert tracers(container) == {0}


async def test_whoever_cannot_be_followed_is_told_of(lab: Lab) -> None:
    container = await blank(lab)
    async with halting.following(container.pid, "listen"):
        with pytest.raises(NotHalted, match=r"could not be followed up to listen: .*not permitted"):
            async with halting.following(container.pid, "listen"):
                pass


def test_calls_go_by_their_names() -> None:
    assert halting.number_of("listen") == {"x86_64": 50, "aarch64": 201}[platform.machine()]
    with pytest.raises(SpecError, match=r"'lissten'.* is no system call of this machine"):
        halting.number_of("lissten")
