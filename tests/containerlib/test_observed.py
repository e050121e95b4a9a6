"""What the kernel tells of a container, of a process that is none, and of one that has something of the host's."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from containerlib import cgroups, observed, security
from containerlib.enter import Door, Ended
from containerlib.security import Finding, MountFact, Severity
from tests.plugins.compute import Host, python, until

FATAL = (Severity.HIGH, Severity.MEDIUM)

IN_THE_MOUNTS = """
import os, sys
pid, group, path = sys.argv[1:]
kept = os.open(path, os.O_RDONLY)
processes = os.open(group, os.O_WRONLY)
os.setns(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY), os.CLONE_NEWNS)
os.write(processes, b"0")
print("there", flush=True)
sys.stdin.read()
"""


async def door_of(host: Host, app: str) -> Door:
    found = await (await host.proxy()).door(app)
    return Door(found.life, found.pid, found.cgroups, found.uid, found.workdir, found.env)


@pytest.mark.system
async def test_of_a_container_as_it_is_made_only_what_is_as_it_should_be(host: Host) -> None:
    await host.app("blog", *python("serve()"), words={"memory": "64M", "cpu": "50%"})
    await host.wake("blog")
    door = await door_of(host, "blog")
    await until(lambda: observed.read_limits(door.cgroups)["cpu"] == 0.5, why="it still has its CPU for booting")
    facts = observed.observe(door)
    assert [each for each in security.audit(facts) if each.severity is not Severity.INFO] == []
    assert Finding(Severity.INFO, "listens", "0.0.0.0 port 80") in security.audit(facts)
    assert facts.limits == {"memory": 64 << 20, "pids": 256, "cpu": 0.5}
    assert set(facts.links) == {"lo", "eth0"}
    assert {each.uid for each in facts.processes} == {door.uid}


@pytest.mark.system
async def test_a_process_that_holds_a_file_of_the_hosts_is_found(host: Host) -> None:
    await host.app("blog", *python("serve()"), words={"memory": "64M", "cpu": "50%"})
    await host.wake("blog")
    door = await door_of(host, "blog")
    secret = host.directory / "secret"
    secret.write_text("x")
    words = [str(door.pid), f"{door.cgroups[0]}/cgroup.procs", str(secret)]
    intruder = await asyncio.create_subprocess_exec(
        sys.executable, "-SIc", IN_THE_MOUNTS, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert intruder.stdin is not None and intruder.stdout is not None
    try:
        assert await intruder.stdout.readline() == b"there\n"
        found = security.audit(observed.observe(door))
    finally:
        intruder.stdin.close()
        await intruder.wait()
    held = [each.found for each in found if each.what == "open file" and str(secret) in each.found]
    assert len(held) == 1 and f"({intruder.pid})" in held[0]
    # It is root's, unfiltered, too: told of that process, not of the container's own.
    assert {each.what for each in found if each.severity is Severity.HIGH} >= {"system calls", "new privileges", "user"}
    assert all(f"({intruder.pid})" in each.found for each in found if each.severity in FATAL)


@pytest.mark.system
def test_a_process_of_the_hosts_has_every_fault() -> None:
    tree = cgroups.find(f"fctest-{os.getpid()}")
    group = tree.create("audit")
    sleeper = subprocess.Popen(["sleep", "100"])
    try:
        directory = group.directories()[0]
        (directory / "cgroup.procs").write_text(str(sleeper.pid))
        door = Door("host", sleeper.pid, (str(directory),), 0, "/", {})
        found = {each.what: each.severity for each in security.audit(observed.observe(door))}
    finally:
        sleeper.kill()
        sleeper.wait()
        group.remove()
        tree.remove()
    for name in security.NAMESPACES:
        assert f"namespace {name}" in found
    wanted = {"capabilities CapEff", "system calls", "new privileges", "user", "path not masked", "path not read-only"}
    assert {name for name in wanted if found.get(name) in FATAL} == wanted


@pytest.mark.system
async def test_one_that_ended_meanwhile(host: Host) -> None:
    await host.app("blog", *python("serve()"))
    await host.wake("blog")
    door = await door_of(host, "blog")
    await (await host.proxy()).stop("blog", now=True)
    await until(lambda: not Path(f"/proc/{door.pid}").exists())
    with pytest.raises(Ended, match=r"blog/1\.1 ended meanwhile"):
        observed.observe(door)


@pytest.mark.parametrize(
    ("texts", "limits"),
    [
        ({}, (None, None, None)),
        ({"memory.max": "max", "pids.max": "max", "cpu.max": "max 100000"}, (None, None, None)),
        ({"memory.max": "4096", "pids.max": "5", "cpu.max": "50000 100000"}, (4096, 5, 0.5)),
        ({"memory.limit_in_bytes": "9223372036854771712", "cpu.cfs_quota_us": "-1"}, (None, None, None)),
        ({"memory.limit_in_bytes": "4096", "cpu.cfs_quota_us": "200000", "cpu.cfs_period_us": "100000"}, (4096, None, 2.0)),
    ],
)  # fmt: skip
def test_limits_of_both_versions(texts: dict[str, str], limits: tuple[object, ...]) -> None:
    assert tuple(observed.parse_limits(texts).values()) == limits


def test_a_mount_whose_point_has_a_space_and_whose_line_has_optional_fields() -> None:
    line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root ro,errors=continue\n"
    (found,) = observed.parse_mounts(line)
    assert found == MountFact(36, "/mnt 2", "ext3", frozenset({"rw", "noatime"}), frozenset({"ro", "errors=continue"}))
    assert not found.is_writable


def test_who_listens() -> None:
    head = "  sl  local_address rem_address   st\n"
    if sys.byteorder == "little":
        four = head + "   0: 0100007F:1F90 00000000:0000 0A\n   1: 0100007F:1F90 0100007F:1234 01\n"
        assert list(observed.parse_listening(four)) == [("127.0.0.1", 8080)]
        six = head + "   0: 00000000000000000000000001000000:0050 0:0000 0A\n"
        assert list(observed.parse_listening(six)) == [("::1", 80)]


def test_a_hard_limit_of_open_files() -> None:
    head = "Limit                     Soft Limit           Hard Limit           Units\n"
    assert (
        observed.parse_files_max(f"{head}Max open files            1024                 4096                 files\n")
        == 4096
    )
    assert (
        observed.parse_files_max(f"{head}Max open files            1024                 unlimited            files\n")
        is None
    )
