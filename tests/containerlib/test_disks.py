"""Disks under files, on a made-up /sys and on this host."""

import os
from pathlib import Path

import pytest

from containerlib import disks


@pytest.fixture
def host(tmp_path: Path) -> tuple[Path, Path]:
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    (proc / "self").mkdir(parents=True)
    (proc / "self/mountinfo").write_text("")
    (sys / "dev/block").mkdir(parents=True)
    return proc, sys


def number_of(path: Path) -> str:
    device = path.stat().st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def test_a_whole_disk_is_named_once(tmp_path: Path, host: tuple[Path, Path]) -> None:
    (host[1] / "dev/block" / number_of(tmp_path)).mkdir()
    assert disks.of([tmp_path, str(tmp_path), tmp_path / "not there"], *host) == (number_of(tmp_path),)


def test_a_partition_stands_for_its_disk(tmp_path: Path, host: tuple[Path, Path]) -> None:
    disk = host[1] / "devices/sda"
    (disk / "sda1").mkdir(parents=True)
    (disk / "dev").write_text("8:0\n")
    (disk / "sda1/partition").write_text("1\n")
    (host[1] / "dev/block" / number_of(tmp_path)).symlink_to(disk / "sda1")
    assert disks.of([tmp_path], *host) == ("8:0",)


def test_a_file_system_with_a_number_of_its_own_is_looked_up(tmp_path: Path, host: tuple[Path, Path]) -> None:
    line = f"36 35 {number_of(tmp_path)} / / rw - btrfs SOURCE rw\n"
    (host[0] / "self/mountinfo").write_text(line.replace("SOURCE", "overlay") + line.replace("SOURCE", "/dev/null"))
    assert disks.of([tmp_path], *host) == ()
    (host[1] / "dev/block/1:3").mkdir()  # what /dev/null is
    assert disks.of([tmp_path], *host) == ("1:3",)


def test_what_lies_on_no_disk_has_none() -> None:
    assert disks.of(["/proc", "/dev/shm"]) == ()


def test_a_link_is_not_followed(tmp_path: Path, host: tuple[Path, Path]) -> None:
    (tmp_path / "link").symlink_to("/proc")
    (host[1] / "dev/block" / number_of(tmp_path)).mkdir()
    assert disks.of([tmp_path / "link"], *host) == (number_of(tmp_path),)
