"""A copy of a directory, and the recipe that changes with it."""

import os
from pathlib import Path

import pytest

from containerlib.bootstrap.directory import Directory
from containerlib.images import Bench, contents
from containerlib.programs import ProgramError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "etc").mkdir(parents=True)
    (source / "etc/hosts").write_text("x")
    (source / ".hidden").write_text("x")
    (source / "etc/guests").hardlink_to(source / "etc/hosts")
    (source / "out").symlink_to("/etc/shadow")
    return source


@pytest.mark.system
def test_owners_modes_links_and_attributes_are_kept(source: Path, root: Path, bench: Bench) -> None:
    os.chown(source / "etc/hosts", 4711, 4712)
    (source / "etc/hosts").chmod(0o4755)
    os.setxattr(source / "etc/hosts", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    Directory(source).build(root, bench)
    assert contents.differences(contents.lines(source), contents.lines(root)) == []
    assert (root / "etc/guests").samefile(root / "etc/hosts")
    assert not (root / "etc/hosts").samefile(source / "etc/hosts")


@pytest.mark.system
def test_devices_are_refused_unless_asked_for(source: Path, root: Path, bench: Bench, tmp_path: Path) -> None:
    os.mkfifo(source / "etc/fifo")
    with pytest.raises(
        ValueError, match="device files or FIFOs in it: etc/fifo; remove them, or allow them with devices=True"
    ):
        Directory(source).build(root, bench)
    (tmp_path / "other").mkdir()
    Directory(source, devices=True).build(tmp_path / "other", bench)
    assert contents.devices(tmp_path / "other") == ["etc/fifo"]


@pytest.mark.system
def test_an_absent_source(root: Path, bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="No such file or directory"):
        Directory(tmp_path / "absent").build(root, bench)


def test_the_recipe_is_what_is_in_it_wherever_it_lies(source: Path, tmp_path: Path) -> None:
    before = Directory(source).recipe()
    moved = source.rename(tmp_path / "moved")
    assert Directory(moved).recipe() == before
    info = (moved / "etc/hosts").stat()
    (moved / "etc/hosts").write_text("y")
    os.utime(moved / "etc/hosts", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert Directory(moved).recipe() != before


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match=r"Directory\.source PosixPath\('x'\): must be an absolute path of the host"):
        Directory(Path("x"))
