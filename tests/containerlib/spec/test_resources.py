"""How much a container may use."""

import resource

import pytest

from containerlib.checks import SpecError
from containerlib.spec.resources import Cgroup, Io, Rlimit, Setting


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Cgroup(cpu=0.001), "cgroup.cpu: 0.001 is not from 0.01 to 512"),
        (lambda: Cgroup(memory_bytes=1000), "cgroup.memory: 1000 is not from"),
        (lambda: Cgroup(pids=1), "cgroup.pids: 1 is not from 2"),
        (lambda: Cgroup(io=(Io("8:0"), Io("8:0"))), "cgroup.io: '8:0' is there twice"),
        (lambda: Io("sda"), "cgroup.io device: 'sda' is not MAJOR:MINOR"),
        (lambda: Io("/dev/../etc"), "is not MAJOR:MINOR or a file in /dev"),
        (lambda: Io("8:0", read_bps=0), "cgroup.io read_bps: 0 is not from 1"),
        (lambda: Setting(1, "../cpu.shares", "1"), "is not a setting such as cpu.weight"),
        (lambda: Setting(2, "cgroup.procs", "1"), "cgroup.v2: 'cgroup.procs' is not a setting"),
        (lambda: Setting(2, "cpu.weight", "1\0"), "cgroup.v2 cpu.weight: .* contains a NUL"),
        (lambda: Rlimit("files", 1, 1), "rlimit: 'files' is none of"),
        (lambda: Rlimit("nofile", -1, 1), "rlimit nofile: -1 is not from 0"),
        (lambda: Rlimit("nofile", 9, 8), "rlimit nofile: 9 is more than its hard limit 8"),
        (lambda: Rlimit("nofile", None, 8), "rlimit nofile: None is more than its hard limit 8"),
    ],
)
def test_is_refused(make, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        make()


def test_settings_know_their_controller() -> None:
    assert Setting(1, "memory.kmem.limit_in_bytes", "1").controller == "memory"


def test_rlimits_as_the_kernel_wants_them() -> None:
    assert Rlimit("nofile", 5, None).values() == (5, resource.RLIM_INFINITY)
    assert Rlimit("core", None, None).number == resource.RLIMIT_CORE
