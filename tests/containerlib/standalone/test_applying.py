"""What is done to a container from outside."""

import os
import resource
import subprocess
from pathlib import Path

import pytest

from containerlib import cgroups
from containerlib.handle import StartFailed
from containerlib.spec import Cgroup, ContainerSpec, Io, Rlimit, Setting
from containerlib.standalone.applying import set_rlimits, write_settings


def spec(**changes: object) -> ContainerSpec:
    return ContainerSpec("web", ("x",), **changes)  # type: ignore[arg-type]


@pytest.mark.system
def test_settings_by_name_for_this_hosts_version() -> None:
    tree = cgroups.find(f"fctest-{os.getpid()}")
    group = tree.create("1")
    try:
        name = "cpu.shares" if tree.version == 1 else "cpu.weight"
        settings = (Setting(1, "cpu.shares", "512"), Setting(2, "cpu.weight", "50"))
        write_settings(group, spec(cgroup=Cgroup(settings=settings)))
        base: Path = tree.bases.get("cpu") or tree.bases[""]
        assert (base / "1" / name).read_text() == f"{512 if tree.version == 1 else 50}\n"
        wrong = (Setting(tree.version, name, "much"), Setting(tree.version, "cpu.nonsense", "1"))
        for each in wrong:
            with pytest.raises(StartFailed, match="a setting of its cgroup cannot be made"):
                write_settings(group, spec(cgroup=Cgroup(settings=(each,))))
        with pytest.raises(StartFailed, match="/dev/no-such-disk"):
            write_settings(group, spec(cgroup=Cgroup(io=(Io("/dev/no-such-disk", 1),))))
    finally:
        group.remove()
        tree.remove()


@pytest.mark.system
def test_rlimits_of_processes_that_run() -> None:
    with subprocess.Popen(["sleep", "100"]) as process:
        set_rlimits(spec(rlimits=(Rlimit("nofile", 9, 10), Rlimit("core", 0, 0))), [process.pid, 1 << 22])
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (9, 10)
        process.kill()
