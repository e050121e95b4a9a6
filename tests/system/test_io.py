"""What an app may do on a disk in a second: held for real, changed while it runs, and nothing for who does not ask."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerlib import cgroups, disks
from dispatcher.compute.protocol import Live
from dispatcher.domain import Io, Mount, Policy, Start
from tests.plugins.compute import Host, fetch, python, until
from tests.system.test_errors import end, small_disk
from tests.vm.machine import is_inside

pytestmark = pytest.mark.system
MB = 1 << 20
DISK_OF_VM = "/dev/ram0"

# Answers with how long it took to write and to read two megabytes around the page cache, in eight pieces each.
MEASURES = python("""
import mmap
piece = mmap.mmap(-1, 1 << 18)
file = os.open("/srv/" + socket.gethostname(), os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
def took(call):
    began = time.monotonic()
    for number in range(8):
        assert call(file, [piece], number << 18) == 1 << 18
    return time.monotonic() - began
def answer(connection):
    connection.recv(65536)
    said = f"{took(os.pwritev)} {took(os.preadv)}"
    connection.sendall(f"HTTP/1.0 200 OK\\r\\n\\r\\n{said}".encode())
    connection.close()
serve()
""")


@pytest.fixture
def disk(host: Host) -> Iterator[Path]:
    """The content lies on one."""
    place = host.content
    if is_inside():  # whose root is not on a disk
        subprocess.run(["mkfs.ext4", "-qF", DISK_OF_VM], check=True)
        subprocess.run(["mount", DISK_OF_VM, str(place)], check=True)
    place.chmod(0o777)
    assert disks.of([place])
    yield place
    if is_inside():
        host.kill_agent()
        host.kill_launcher()
        subprocess.run(["umount", "-l", str(place)], check=True)


async def measured(live: Live) -> tuple[float, float]:
    """Seconds for writing and for reading."""
    write_s, read_s = (await fetch(live.address, timeout_s=60)).rpartition(b"\n")[2].split()
    return float(write_s), float(read_s)


def own_directory(host: Host, live: Live) -> Path | None:
    """Of v1: where its limits are."""
    base = cgroups.find(host.settings.cgroup).on_demand.get("blkio")
    return base / str(host.slot(live)) if base else None


async def test_direct_io_is_held_to_its_rate_and_the_rate_changes_while_it_runs(host: Host, disk: Path) -> None:
    mount = Mount(str(disk), "/srv")
    await host.app("blog", *MEASURES, mounts=(mount,), io=Io(write_bps=MB))
    await host.app("free", *MEASURES, mounts=(mount,))
    live, free = await host.wake("blog"), await host.wake("free")
    write_s, read_s = await measured(live)
    assert write_s > 1.4 and read_s < 1.0
    (init, *_) = await host.processes("blog")
    if directory := own_directory(host, live):
        assert sorted(map(int, (directory / "cgroup.procs").read_text().split())) == await host.processes("blog")
        other = own_directory(host, free)
        assert other is not None and not other.exists()
    assert max(await measured(free)) < 1.0

    await host.edit("blog", io=Io(read_iops=5))
    await until_limit(host, live, "riops=5", "read_iops")
    write_s, read_s = await measured(live)
    assert write_s < 1.0 and read_s > 1.0

    host.kill_agent()
    await host.detach()
    await host.start_agent()
    await host.edit("blog", io=Io())
    await until_limit(host, live, "", "read_iops")
    assert max(await measured(live)) < 1.0
    assert (await host.processes("blog"))[0] == init
    await (await host.proxy()).stop("blog")
    if directory:
        await until(lambda: not directory.exists())


async def test_one_that_runs_is_limited_with_all_its_processes(host: Host, disk: Path) -> None:
    many = python("for n in range(20):\n    if os.fork() == 0: signal.pause()\nserve()")
    await host.app("blog", *many, mounts=(Mount(str(disk), "/srv"),))
    live = await host.wake("blog")
    await host.edit("blog", io=Io(write_bps=MB))
    await until_limit(host, live, f"wbps={MB}", "write_bps", str(MB))
    if directory := own_directory(host, live):
        inside = sorted(map(int, (directory / "cgroup.procs").read_text().split()))
        assert inside == await host.processes("blog") and len(inside) > 20


async def until_limit(host: Host, live: Live, v2: str, v1: str, value: str = "5") -> None:
    """`v2`: part of io.max; empty: none is there."""
    if directory := own_directory(host, live):
        file = directory / f"blkio.throttle.{v1}_device"
        expected = value if v2 else ""
        await until(lambda: file.exists() and file.read_text().strip().rpartition(" ")[2] == expected)
    else:
        file = (
            cgroups.find(host.settings.cgroup).bases[""] / str(host.slot(live)) / "io.max"
        )  # not there before somebody asks
        await until(lambda: file.exists() and v2 in (text := file.read_text()) and bool(v2) == bool(text))


async def test_one_that_begins_from_an_image_is_limited_as_well(host: Host, disk: Path) -> None:
    policy = Policy(idle_s=0.3, start=Start.RESTORED)
    await host.app("blog", *python("serve()"), mounts=(Mount(str(disk), "/srv"),), io=Io(write_bps=MB), policy=policy)
    for kind in ("dumped", "restored"):
        live = await host.wake("blog")
        await until_limit(host, live, f"wbps={MB}", "write_bps", str(MB))
        if directory := own_directory(host, live):
            group = cgroups.find(host.settings.cgroup).group(str(host.slot(live)))
            assert sorted(map(int, (directory / "cgroup.procs").read_text().split())) == sorted(group.processes()) != []
        await (await host.proxy()).until_status("blog", "1", None, within_s=20)
        assert await host.event("blog", kind)


async def test_an_app_of_which_nothing_lies_on_a_disk_is_told(host: Host) -> None:
    host.kill_agent()
    host.kill_launcher()
    with small_disk(host.settings.state_dir, "size=4m,mode=755"):
        await host.start()
        await host.app("blog", mounts=(), io=Io(write_bps=MB))
        refused = await host.refused("blog")
        assert "its io cannot be limited: nothing of " in refused.message and "leave out io" in refused.message
        await end(host)
