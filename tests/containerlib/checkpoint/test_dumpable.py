"""A container that CRIU can dump is like any other, but for whose its namespaces are."""

import fcntl
import os
from pathlib import Path

import pytest

from containerlib import security
from containerlib.cgroups import Limits
from containerlib.enter import Door
from containerlib.handle import Container, Kind, StartFailed
from containerlib.identity import Identity
from containerlib.idmap import map_text
from containerlib.observed import observe
from containerlib.operations import OpenStandard
from tests.containerlib.checkpoint.test_dumping import BASE, answer, start
from tests.containerlib.test_runtime import Lab
from tests.plugins.compute import until

pytestmark = pytest.mark.system
NS_GET_USERNS = 0xB701


def owner(pid: int, name: str) -> int:
    """The user namespace that a namespace belongs to, by its inode."""
    fd = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)
    user = fcntl.ioctl(fd, NS_GET_USERNS)
    found = os.fstat(user).st_ino
    os.close(user)
    os.close(fd)
    return found


def observe_maps(container: Container) -> list[str]:
    return sorted(Path(f"/proc/{container.pid}/uid_map").read_text().split())


def audit(container: Container) -> list[tuple[str, str]]:
    door = Door("web", container.pid, tuple(map(str, container.group.directories())), BASE, "/", {})
    found = security.audit(observe(door))
    # The FIFOs of its log have names inside.
    return [(each.severity, each.what) for each in found if not each.found.startswith("/.fastcontainer/")]


async def test_all_its_namespaces_are_its_own_user_namespaces(lab: Lab) -> None:
    container = await start(lab)
    own = os.stat(f"/proc/{container.pid}/ns/user").st_ino  # noqa: PTH116
    assert {owner(container.pid, name) for name in ("mnt", "pid", "net", "ipc", "uts")} == {own}
    assert observe_maps(container) == sorted(map_text(BASE).split())


async def test_it_is_not_less_isolated_than_one_of_the_usual_kind(lab: Lab) -> None:
    usual = await lab.wake()
    dumpable = await start(lab)
    await answer(dumpable)
    await until(lambda: usual.wire.diag.listening())
    assert audit(dumpable) == audit(usual)


async def test_a_command_that_is_not_there_is_told(lab: Lab) -> None:
    blank = await lab.runtime.make_blank(kind=Kind(dumpable=BASE))
    lab.made.append(blank)
    with pytest.raises(StartFailed, match=r"command 'nonsense' is not in the container's PATH"):
        await lab.runtime.wake(blank, Identity("web", BASE, ("nonsense",)), (), Limits())


def test_standard_files_by_name(tmp_path: Path) -> None:
    for name in ("out", "err"):
        os.mkfifo(tmp_path / name)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            OpenStandard("/dev/null", (str(tmp_path / "out"), str(tmp_path / "err"))).execute()
            names = [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)]  # noqa: PTH115
            code = 0 if names == ["/dev/null", str(tmp_path / "out"), str(tmp_path / "err")] else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
