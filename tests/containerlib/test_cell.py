"""What a program of a build can see and do, and that nothing of it outlives the build."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerlib import cgroups, programs
from containerlib.bounds import TREE
from containerlib.cell import SCRIPT, Container, Order, container_plan
from containerlib.operations import EnterRoot
from tests.plugins.images import processes, wait_until

ROOT = Path(__file__).parents[2]
HOST_SECRET = "/etc/shadow"


def inside(root: Path, script: str, *, network: bool = False, files: dict[str, str] | None = None) -> str:
    container = Container(str(root), "box", network, script, files or {})
    return programs.run(("/bin/sh", "-e", SCRIPT), timeout_s=20, container=container)


def test_an_order_survives_the_way() -> None:
    order = Order(("a", "b"), {"X": "1"}, "/srv", Container("/root", "box", True, "x", {"/etc/hosts": ""}))
    assert Order.from_bytes(order.to_bytes()) == order
    assert Order.from_bytes(Order(("a",), {}).to_bytes()) == Order(("a",), {})


def test_nothing_below_the_root_is_touched_before_it_is_entered() -> None:
    plan = container_plan(Container("/the/root", "box", False, "x"))
    entered = next(number for number, operation in enumerate(plan) if isinstance(operation, EnterRoot))
    before = [operation for operation in plan[:entered] if "/the/root" in operation.describe()]
    assert [operation.describe() for operation in before] == ["BindRoot(path='/the/root')"]
    assert not any("/the/root" in operation.describe() for operation in plan[entered + 1 :])


@pytest.mark.system
def test_a_program_of_the_host_has_its_own_processes_and_mounts(tmp_path: Path) -> None:
    text = programs.run(("sh", "-c", "ls /proc; mount -t tmpfs none $0; touch $0/x", tmp_path), timeout_s=20)
    assert sorted(name for name in text.split() if name.isdecimal()) == ["1", "2", "3"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.system
def test_a_container_sees_the_root_and_nothing_else(busybox: Path) -> None:
    text = inside(busybox, "hostname; ls /; ls -d /proc/[0-9]*; test ! -e /etc/shadow; cat /proc/net/dev")
    words = text.split()
    assert words[0] == "box"
    assert {"bin", "etc", "dev", "proc", "sys", "run", "tmp"} >= set(words[1:8])
    assert [word for word in words if word.startswith("/proc/")] == ["/proc/1", "/proc/2"]
    assert [line.split(":")[0].strip() for line in text.splitlines() if ":" in line] == ["lo"]
    assert Path(HOST_SECRET).exists()


@pytest.mark.system
def test_with_the_network_it_sees_the_hosts(busybox: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert f":{port:04X}" in inside(busybox, "cat /proc/net/tcp", network=True)
        assert f":{port:04X}" not in inside(busybox, "cat /proc/net/tcp")


@pytest.mark.system
@pytest.mark.parametrize(
    "attempt",
    [
        "mount -t tmpfs none /mnt",
        "mount -o remount,rw /proc/sys",
        "mknod /dev/sda b 8 0",
        "mknod /x c 1 3",
        "echo 1 > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "hostname other",
        "cat /proc/1/environ",
        "ls -l /proc/1/fd/ | cat /proc/1/fd/0",
        "busybox chroot /proc/1/root /bin/true",
        "busybox ip link set lo down",
        "busybox nsenter -t 1 -m /bin/true",
        "busybox unshare -U /bin/true",
        "busybox unshare -r -m busybox mount -t tmpfs none /mnt",
    ],
)
def test_what_it_may_not_do(busybox: Path, attempt: str) -> None:
    (busybox / "mnt").mkdir()
    script = f"if (PATH=/bin; {attempt}) >/dev/null 2>&1; then echo DONE; fi"
    # sysrq-trigger is masked by /dev/null: that it takes the letter is no harm, so it is asked what it is.
    if "sysrq" in attempt:
        script = "if test -e /proc/sysrq-trigger && ! test -c /proc/sysrq-trigger; then echo DONE; fi"
    assert inside(busybox, script) == ""


@pytest.mark.system
def test_what_package_installation_needs_it_may_do(busybox: Path) -> None:
    (busybox / "srv").mkdir()
    inside(
        busybox,
        "cd /srv; touch file; chown 4711:4712 file; chmod 4755 file; busybox chroot / /bin/true\n"
        "su web -c 'id -u' > user; test $(cat user) = 4711; touch /tmp/x /run/y /dev/shm/z\n"
        "busybox dd if=/dev/zero of=/dev/shm/big bs=1M count=4",
    )
    info = (busybox / "srv/file").stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (4711, 4712, 0o4755)
    assert (
        list((busybox / "tmp").iterdir())
        == list((busybox / "dev").iterdir())
        == list((busybox / "run").iterdir())
        == []
    )


@pytest.mark.system
def test_files_are_put_over_what_is_there_and_leave_no_trace(busybox: Path) -> None:
    (busybox / "etc/hosts").write_text("of the image\n")
    (busybox / "etc/resolv.conf").symlink_to("../run/resolve/stub.conf")
    (busybox / "usr/sbin").mkdir(parents=True)
    files = {
        "/etc/hosts": "over\n",
        "/etc/resolv.conf": "nameserver 192.0.2.1\n",
        "/usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
        "/absent/directory/file": "x",
    }
    script = "cat /etc/hosts /etc/resolv.conf; /usr/sbin/policy-rc.d || echo $?; test ! -e /absent"
    assert inside(busybox, script, files=files) == "over\nnameserver 192.0.2.1\n101\n"
    assert (busybox / "etc/hosts").read_text() == "of the image\n"
    assert (busybox / "etc/resolv.conf").is_symlink()
    assert list((busybox / "usr/sbin").iterdir()) == []


@pytest.mark.system
@pytest.mark.parametrize("name", ["proc", "dev", "run", "tmp", "sys", "etc"])
def test_a_link_in_the_image_leads_nowhere(busybox: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    if name == "etc":
        for path in (busybox / "etc").iterdir():
            path.unlink()
        (busybox / "etc").rmdir()
    (busybox / name).symlink_to(outside)
    if name == "etc":  # nothing is put where there is no directory
        inside(busybox, "true", files={"/etc/hosts": "x"})
    else:
        with pytest.raises(programs.ProgramError, match="could not be started"):
            inside(busybox, "true", files={"/etc/hosts": "x"})
    assert list(outside.iterdir()) == []


@pytest.mark.system
def test_device_files_of_an_image_are_dead(busybox: Path) -> None:
    os.mknod(busybox / "null", 0o666 | 0o020000, os.makedev(1, 3))
    assert inside(busybox, "if (echo x > /null) 2>/dev/null; then echo DONE; fi") == ""


MARKER = f"99{os.getpid()}"  # seconds
BUILDER = """
import fcntl, os, sys
sys.path.insert(0, sys.argv[1])
from containerlib import programs
from containerlib.cgroups import Limits
marker = os.environ["MARKER"]
lock = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
programs.run(("sh", "-c", f"setsid sleep {marker} & echo begun >&2; sleep {marker}"), timeout_s=600, held=(lock,),
             limits=Limits(pids=50), on_line=lambda line: print(line, flush=True))
"""


def child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@contextlib.contextmanager
def builder(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that holds the lock and has a program run."""
    command = (sys.executable, "-c", BUILDER, ROOT, tmp_path / "lock")
    env = {**os.environ, "MARKER": MARKER}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"begun\n"
            wait_until(lambda: len(processes(MARKER)) == 2)
            yield process
        finally:
            process.kill()
            for pid in processes(MARKER):
                os.kill(pid, signal.SIGKILL)


def is_free(lock: Path) -> bool:
    return subprocess.run(["flock", "-n", lock, "true"], check=False).returncode == 0


@pytest.mark.system
def test_the_lock_is_held_until_nothing_of_the_program_lives(tmp_path: Path) -> None:
    """With the cell stopped nobody kills the program of the dead builder."""
    with builder(tmp_path) as process:
        cell = child(process.pid)
        os.kill(cell, signal.SIGSTOP)
        try:
            process.kill()
            process.wait()
            assert processes(MARKER) != [] and not is_free(tmp_path / "lock")
        finally:
            os.kill(cell, signal.SIGCONT)
        wait_until(lambda: is_free(tmp_path / "lock"))
        assert processes(MARKER) == []


@pytest.mark.system
@pytest.mark.parametrize("victim", ["builder", "cell"])
def test_whoever_is_killed_all_of_it_goes(tmp_path: Path, victim: str) -> None:
    with builder(tmp_path) as process:
        (group,) = groups_of(process.pid)
        bound = cgroups.find(TREE).group(group).processes()
        assert set(processes(MARKER)) < set(bound) and child(process.pid) not in bound  # PID 1, too, but not the keeper
        os.kill(process.pid if victim == "builder" else child(process.pid), signal.SIGKILL)
        wait_until(lambda: processes(MARKER) == [])
        wait_until(lambda: groups_of(process.pid) == [])  # by the builder, or by the keeper


def groups_of(pid: int) -> list[str]:
    return [name for name in cgroups.find(TREE).names() if name.startswith(f"{pid}-")]
