"""Limits of block devices and settings by name as file contents, for both versions."""

import pytest

from containerlib.cgroups import settings
from containerlib.cgroups.limits import FileContent
from containerlib.spec import Cgroup, Io, Setting

DEVICES = {"/dev/sda": "8:0", "7:1": "7:1"}
CGROUP = Cgroup(
    io=(Io("/dev/sda", read_bps=1000, write_iops=5), Io("7:1", write_bps=9)),
    settings=(Setting(1, "cpu.shares", "512"), Setting(2, "cpu.weight", "50"), Setting(2, "memory.high", "1G")),
)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            1,
            (
                FileContent("blkio", "blkio.throttle.read_bps_device", "8:0 1000"),
                FileContent("blkio", "blkio.throttle.write_iops_device", "8:0 5"),
                FileContent("blkio", "blkio.throttle.write_bps_device", "7:1 9"),
                FileContent("cpu", "cpu.shares", "512"),
            ),
        ),
        (
            2,
            (
                FileContent("", "io.max", "8:0 rbps=1000 wiops=5"),
                FileContent("", "io.max", "7:1 wbps=9"),
                FileContent("", "cpu.weight", "50"),
                FileContent("", "memory.high", "1G"),
            ),
        ),
    ],
)
def test_contents(version: int, expected: tuple[FileContent, ...]) -> None:
    assert settings.contents(version, CGROUP, DEVICES) == expected


@pytest.mark.parametrize(("version", "expected"), [(1, ("blkio", "cpu")), (2, ("io", "cpu", "memory"))])
def test_controllers(version: int, expected: tuple[str, ...]) -> None:
    assert settings.controllers(version, CGROUP) == expected


@pytest.mark.parametrize("version", [1, 2])
def test_nothing_said_nothing_written(version: int) -> None:
    assert settings.contents(version, Cgroup(io=(Io("7:1"),)), DEVICES) == ()
    assert settings.controllers(version, Cgroup()) == ()
