"""Facts -> findings: what each rule says, and that it says nothing of a container as it should be."""

import stat
from dataclasses import replace

import pytest

from containerlib.security import (
    MASKED,
    DeviceFact,
    Facts,
    FileFact,
    Finding,
    MountFact,
    ProcessFact,
    Severity,
    audit,
    capability_names,
)

RO, RW = frozenset({"ro", "nosuid", "nodev"}), frozenset({"rw", "nosuid", "nodev"})
ROOT = MountFact(1, "/", "tmpfs", frozenset({"rw", "nosuid"}), frozenset({"rw"}))
MOUNTS = (
    ROOT,
    MountFact(2, "/usr", "ext4", RO, frozenset({"rw"})),
    MountFact(3, "/proc", "proc", RW, frozenset({"rw"})),
    *(MountFact(10 + n, f"/proc/{name}", "proc", RO, frozenset({"rw"})) for n, name in enumerate(("sys", "bus", "fs", "irq"))),
    *(MountFact(20 + n, f"/proc/{name}", "tmpfs", ROOT.options, frozenset({"rw"})) for n, name in enumerate(MASKED)),
    MountFact(4, "/sys", "sysfs", RO, frozenset({"ro"})),
)  # fmt: skip
NONE = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0)
PROCESS = ProcessFact(
    7, "php", 200_000, NONE, 2, 1, True, 4096, (FileFact(0, "/dev/null", 1), FileFact(1, "pipe:[5]", 99))
)
GOOD = Facts(
    processes=(PROCESS,),
    shared_namespaces=frozenset(),
    uid_map=((1000, 200_000, 1),),
    gid_map=((1000, 200_000, 1),),
    mounts=MOUNTS,
    devices=(DeviceFact("null", False, 1, 3),),
    sensitive=frozenset(MASKED),
    limits={"memory": 1 << 27, "pids": 256, "cpu": 1.0},
    links=("lo", "eth0"),
    listening=(),
)


def process(**changed: object) -> Facts:
    return replace(GOOD, processes=(replace(PROCESS, **changed),))  # type: ignore[arg-type]


def mounts(*more: MountFact, without: str = "") -> Facts:
    return replace(GOOD, mounts=(*(each for each in MOUNTS if each.point != without), *more))


def srv(*options: str) -> Facts:
    return mounts(MountFact(50, "/srv", "ext4", frozenset(options), frozenset({"rw"})))


def test_of_a_container_as_it_should_be_there_is_nothing_to_say() -> None:
    assert audit(GOOD) == ()


ADMIN = 1 << 21


@pytest.mark.parametrize(
    ("facts", "severity", "what", "found"),
    [
        (process(capabilities={**NONE, "CapEff": ADMIN}), Severity.MEDIUM, "capabilities CapEff", "php (7): sys_admin"),
        (
            replace(process(capabilities={**NONE, "CapPrm": ADMIN}), shared_namespaces=frozenset({"user"})),
            Severity.HIGH, "capabilities CapPrm", "php (7): sys_admin",
        ),
        (process(capabilities={**NONE, "CapBnd": 1}), Severity.LOW, "capabilities CapBnd", "php (7): chown"),
        (process(seccomp=0, filters=0), Severity.HIGH, "system calls", "php (7): no filter"),
        (process(seccomp=1), Severity.HIGH, "system calls", "php (7): no filter"),
        (process(no_new_privileges=False), Severity.HIGH, "new privileges", "setuid"),
        (process(uid=0), Severity.HIGH, "user", "the host's root"),
        (replace(GOOD, shared_namespaces=frozenset({"net"})), Severity.HIGH, "namespace net", "the host's own"),
        (replace(GOOD, shared_namespaces=frozenset({"ipc"})), Severity.MEDIUM, "namespace ipc", "the host's own"),
        (replace(GOOD, uid_map=((0, 0, 1024),)), Severity.HIGH, "uid_map", "0 is 0 on the host, up to 1023"),
        (replace(GOOD, gid_map=((0, 65_535, 1),)), Severity.HIGH, "gid_map", "0 is 65535 on the host"),
        (replace(GOOD, gid_map=()), Severity.MEDIUM, "gid_map", "nothing is mapped"),
        (srv("rw", "nodev"), Severity.MEDIUM, "mount without nosuid", "/srv"),
        (srv("rw", "nosuid"), Severity.MEDIUM, "mount without nodev", "/srv"),
        (srv(*RW), Severity.INFO, "writable mount", "/srv (ext4)"),
        (mounts(without="/proc/kcore"), Severity.HIGH, "path not masked", "/proc/kcore"),
        (mounts(without="/proc/sys"), Severity.HIGH, "path not read-only", "/proc/sys"),
        (mounts(MountFact(50, "/sys", "sysfs", RW, frozenset({"rw"}))), Severity.HIGH, "path not read-only", "/sys"),
        (replace(GOOD, devices=(DeviceFact("sda", True, 8, 0),)), Severity.HIGH, "device", "/dev/sda (block 8:0)"),
        (replace(GOOD, devices=(DeviceFact("x", True, 1, 3),)), Severity.HIGH, "device", "/dev/x (block 1:3)"),
        (replace(GOOD, devices=(DeviceFact("mem", False, 1, 1),)), Severity.HIGH, "device", "/dev/mem (character 1:1)"),
        (replace(GOOD, limits={**GOOD.limits, "memory": None}), Severity.MEDIUM, "no limit of memory", "none"),
        (replace(GOOD, limits={**GOOD.limits, "cpu": None}), Severity.LOW, "no limit of cpu", "none"),
        (process(files_max=None), Severity.LOW, "open files", "unlimited"),
        (process(files=(FileFact(5, "/etc/shadow", 99),)), Severity.HIGH, "open file", "descriptor 5 is /etc/shadow of the host"),
        (process(files=(FileFact(5, "/dev/pts/3", 99),)), Severity.LOW, "open file", "descriptor 5 is /dev/pts/3"),
        (replace(GOOD, links=("lo", "eth0", "eth1")), Severity.MEDIUM, "links", "eth1"),
        (replace(GOOD, listening=(("0.0.0.0", 80),)), Severity.INFO, "listens", "0.0.0.0 port 80"),
    ],
)  # fmt: skip
def test_each_rule(facts: Facts, severity: Severity, what: str, found: str) -> None:
    finding = next((each for each in audit(facts) if each.what == what), Finding(Severity.INFO, "", ""))
    assert (finding.severity, finding.what) == (severity, what)
    assert found in finding.found
    assert finding.remedy or severity is Severity.INFO


@pytest.mark.parametrize(
    ("file", "is_found"),
    [
        (FileFact(5, "/memfd:x (deleted)", 99), False),
        (FileFact(1, "/run/out", 99, stat.S_IFIFO), False),
        (FileFact(0, "/dev/null", 99, stat.S_IFCHR, (1, 3)), False),
        (FileFact(0, "/dev/null", 99, stat.S_IFBLK, (1, 3)), True),  # a disk by that name
        (FileFact(0, "/dev/mem", 99, stat.S_IFCHR, (1, 1)), True),
        (FileFact(5, "/", 99, stat.S_IFDIR), True),
        (FileFact(5, "/", 1, stat.S_IFDIR), False),
        (FileFact(5, "socket:[7]", 99, stat.S_IFSOCK), False),
    ],
)
def test_which_open_files_are_the_hosts(file: FileFact, is_found: bool) -> None:
    assert bool(audit(process(files=(file,)))) == is_found


def test_the_gravest_comes_first() -> None:
    facts = replace(process(seccomp=0, files_max=None), listening=(("::", 80),))
    assert [each.severity for each in audit(facts)] == [Severity.HIGH, Severity.LOW, Severity.INFO]


def test_a_capability_newer_than_the_list_is_told_by_its_number() -> None:
    assert capability_names(1 << 40 | 1 << 41) == ["checkpoint_restore", "capability 41"]
