import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from containerlib import firewall
from dispatcher.compute import kernel_checks
from dispatcher.compute.findings import Finding, State
from tests.fakes import lacking

# Of the calls that are forbidden below: on either processor.
_NUMBERS = {
    "x86_64": {"socket": 41, "mkdir": 83, "prctl": 157, "unshare": 272},
    "aarch64": {"socket": 198, "mkdir": 34, "prctl": 167, "unshare": 97},
}[os.uname().machine] | {"open_tree": 428, "move_mount": 429, "pidfd_open": 434, "mount_setattr": 442}


@pytest.mark.system
def test_this_host_has_what_is_needed() -> None:
    findings = [check() for check in kernel_checks.CHECKS]
    assert [each for each in findings if each.state is State.MISSING] == []
    assert len({each.what for each in findings}) == len(findings)
    assert all(each.remedy for each in findings if each.state is not State.OK)


def without(call: str, check: Callable[[], Finding]) -> Finding:
    """What the check finds on a kernel that has no such call."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            lacking.forbid(_NUMBERS[call])
            os.write(writing, pickle.dumps(check()))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    found = pickle.loads(told)
    assert isinstance(found, Finding)
    return found


@pytest.mark.system
@pytest.mark.parametrize(
    ("check", "call", "state", "remedy"),
    [
        (kernel_checks.cgroups, "mkdir", State.MISSING, "run as root, with /sys/fs/cgroup writable"),
        (kernel_checks.namespaces, "unshare", State.MISSING, "on a kernel with CONFIG_NAMESPACES"),
        (kernel_checks.user_namespaces, "unshare", State.DEGRADED, "sysctl user.max_user_namespaces"),
        (kernel_checks.system_call_filter, "prctl", State.MISSING, "a kernel with CONFIG_SECCOMP_FILTER"),
        (kernel_checks.mount_calls, "open_tree", State.MISSING, "Linux 5.12 or newer"),
        (kernel_checks.mount_calls, "mount_setattr", State.MISSING, "Linux 5.12 or newer"),
        (kernel_checks.mount_calls, "move_mount", State.MISSING, "Linux 5.12 or newer"),
        (kernel_checks.sock_diag, "socket", State.MISSING, "modprobe inet_diag tcp_diag"),
        (kernel_checks.veth, "socket", State.MISSING, "modprobe veth"),
        (kernel_checks.network_policy, "unshare", State.MISSING, "CONFIG_NF_TABLES_INET"),
        (kernel_checks.pidfd, "pidfd_open", State.MISSING, "boot a newer kernel"),
    ],
)
def test_a_kernel_without_a_call_is_told_with_what_to_do(
    check: Callable[[], Finding], call: str, state: State, remedy: str
) -> None:
    found = without(call, check)
    assert (found.state, found.what) == (state, check().what)
    assert remedy in found.remedy and found.found


@pytest.mark.parametrize(
    ("controllers", "found", "remedy"),
    [
        ("cpu pids", "v2 without memory", "let systemd delegate them (Delegate=yes)"),
        ("", "v2 without cpu, memory, pids", "boot with cgroup_enable=memory"),
    ],
)
def test_control_groups_without_a_controller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, controllers: str, found: str, remedy: str
) -> None:
    monkeypatch.setattr(kernel_checks.tree, "MOUNT", tmp_path)
    (tmp_path / "cgroup.controllers").write_text(controllers)
    told = kernel_checks.cgroups()
    assert (told.state, told.found) == (State.MISSING, found) and remedy in told.remedy


def test_no_control_groups_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_checks.tree, "MOUNT", tmp_path)
    monkeypatch.setattr(kernel_checks, "PROC", tmp_path)
    told = kernel_checks.cgroups()
    assert told.state is State.MISSING and told.remedy == f"mount cgroups under {tmp_path}"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/proc and /sys of a kernel that has nothing."""
    monkeypatch.setattr(kernel_checks, "PROC", tmp_path)
    monkeypatch.setattr(kernel_checks, "SYS", tmp_path)
    (tmp_path / "filesystems").write_text("nodev\tproc\n\text4\n")
    (tmp_path / "sys/net/ipv4").mkdir(parents=True)
    (tmp_path / "sys/net/ipv4/ip_forward").write_text("0\n")
    return tmp_path


@pytest.mark.parametrize(
    ("check", "remedy"),
    [
        (kernel_checks.overlayfs, "modprobe overlay"),
        (kernel_checks.forwarding, "sysctl net.ipv4.ip_forward=1"),
        (kernel_checks.pressure, "boot with psi=1"),
        (kernel_checks.listen_events, "without CONFIG_FTRACE readiness is polled for"),
    ],
)
def test_a_proc_without_anything_is_told(bare: Path, check: Callable[[], Finding], remedy: str) -> None:
    found = check()
    assert found.state is State.DEGRADED and remedy in found.remedy


@pytest.mark.system
def test_tracefs_that_cannot_be_mounted(bare: Path) -> None:
    (bare / "filesystems").write_text("nodev\ttracefs\n")
    found = without("unshare", kernel_checks.listen_events)
    assert found.state is State.DEGRADED and "readiness is polled for" in found.remedy


def test_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = kernel_checks.root()
    assert found.state is State.MISSING and "sudo" in found.remedy


@pytest.mark.parametrize(("version", "name"), [((3, 11, 9), "cpython"), ((3, 12, 0), "pypy")])
def test_another_python(monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], name: str) -> None:
    implementation = SimpleNamespace(name=name)
    monkeypatch.setattr(kernel_checks, "sys", SimpleNamespace(version_info=version, implementation=implementation))
    found = kernel_checks.python()
    assert (found.state, found.remedy) == (State.MISSING, "install CPython 3.12 or newer")


def test_no_init(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_checks.plan, "INIT", "/no/such/init")
    assert "apt install catatonit" in kernel_checks.init().remedy


@pytest.mark.system
def test_no_nft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall.shutil, "which", lambda *_, **__: None)
    found = kernel_checks.network_policy()
    assert found.state is State.MISSING and "apt install nftables" in found.remedy


def test_no_criu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONTAINER_CRIU", "/no/such/criu")
    found = kernel_checks.restoring()
    assert found.state is State.DEGRADED and "run ./quickstart" in found.remedy


def test_a_criu_that_does_not_work_on_this_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "criu"
    program.write_text(
        f"#!{sys.executable} -SI\nimport sys\n"
        "if sys.argv[1] == '--version':\n    print('Version: 4.2.1')\n"
        "else:\n    sys.exit('Error (criu/cr-check.c:1): no timens')\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("FASTCONTAINER_CRIU", str(program))
    found = kernel_checks.restoring()
    assert found.state is State.DEGRADED and "4.2.1" in found.found and "timens" in found.found
    assert "all else works" in found.remedy


def test_a_slow_clock(bare: Path) -> None:
    source = bare / "devices/system/clocksource/clocksource0/current_clocksource"
    source.parent.mkdir(parents=True)
    source.write_text("hpet\n")
    assert kernel_checks.clock().found == "reads hpet"


def test_a_clock_that_nobody_sets(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self, _name: None) -> None: ...

        def adjtimex(self, _buffer: object) -> int:
            return 5

    monkeypatch.setattr(kernel_checks.ctypes, "CDLL", Library)
    found = kernel_checks.clock()
    assert found.state is State.DEGRADED and "apt install chrony" in found.remedy


def test_every_check_is_forced_to_its_failing_side_here() -> None:
    """By name: a new one cannot be forgotten."""
    told = Path(__file__).read_text()
    assert [each.__name__ for each in kernel_checks.CHECKS if f"kernel_checks.{each.__name__}" not in told] == []
