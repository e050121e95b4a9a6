"""Entering a container's namespaces for a hook, and kernel operations there."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerlib.hooks import Moment, Side, Task
from containerlib.operations import Mask, MountTmpfs
from containerlib.process import pid_of
from containerlib.spec import ContainerSpec
from containerlib.standalone.hands import Hands, Inside
from containerlib.standalone.worker import tasks_of

pytestmark = pytest.mark.system
NAMESPACES = ["--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--mount-proc", "--fork", "--kill-child"]


def look(container: Moment) -> None:
    text = f"{os.uname().nodename} {os.getuid()} {Path('/proc/1').exists()} {Path.cwd()}"
    raise LookupError(text)


def imports(container: Moment) -> None:
    import tabnanny  # nothing that runs before has loaded it

    assert tabnanny


LOOK, IMPORTS = Task(function=look, side=Side.CONTAINER), Task(function=imports, side=Side.CONTAINER)


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands((LOOK, IMPORTS))
    yield hands
    hands.close()


@pytest.fixture
def inside() -> Iterator[Inside]:
    command = ["unshare", *NAMESPACES, "sh", "-c", "hostname inside; echo ready; read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (pid,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        pidfd = os.pidfd_open(int(pid))
        yield Inside(pidfd, [])
        os.close(pidfd)
        process.kill()


async def test_it_sees_what_the_container_sees(hands: Hands, inside: Inside) -> None:
    assert "LookupError: inside 0 True / " in await hands.run(LOOK, Moment("web", "x"), inside)


async def test_it_imports_nothing_there(hands: Hands, inside: Inside) -> None:
    """A tenant's file could lie where Python looks for it."""
    assert "tabnanny" not in sys.modules
    failure = await hands.run(IMPORTS, Moment("web", "x"), inside)
    assert "sys.meta_path is empty" in failure or "ModuleNotFoundError" in failure


def mounts(pid: int) -> str:
    return Path(f"/proc/{pid}/mountinfo").read_text()


async def test_operations_are_done_there_and_not_here(hands: Hands, inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("here")
    operations = (Mask(f"{tmp_path}/secret", "/dev/null"), MountTmpfs("/mnt", 4096, 10))
    assert await hands.operate(operations, inside) == ""
    assert (tmp_path / "secret").read_text() == "here"
    seen = mounts(pid_of(inside.pidfd))
    assert f"{tmp_path}/secret" in seen and " /mnt " in seen
    failure = await hands.operate((Mask(f"{tmp_path}/secret", "/no/such"),), inside)
    assert "No such file" in failure


def test_the_order_of_tasks() -> None:
    assert tasks_of(ContainerSpec("web", ("x",))) == ()
