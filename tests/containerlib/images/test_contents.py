"""What an image consists of, and what of it has changed."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from containerlib.images import contents


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    tree.chmod(0o755)
    (tree / "etc").chmod(0o755)
    (tree / "etc/hosts").write_text("x")
    (tree / "etc/hosts").chmod(0o644)
    (tree / "bin").symlink_to("usr/bin")
    return tree


def test_lines(tree: Path) -> None:
    owner = f"{os.getuid()}:{os.getgid()}"
    assert list(contents.lines(tree)) == [
        f". d 755 {owner} - -",
        f"bin l 777 {owner} - usr/bin",
        f"etc d 755 {owner} - -",
        f"etc/hosts f 644 {owner} 1 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
    ]


def change_byte(tree: Path) -> None:
    info = (tree / "etc/hosts").stat()
    (tree / "etc/hosts").write_text("y")
    os.utime(tree / "etc/hosts", ns=(info.st_atime_ns, info.st_mtime_ns))  # no time tells


def change_mode(tree: Path) -> None:
    (tree / "etc/hosts").chmod(0o4644)


def change_owner(tree: Path) -> None:
    os.chown(tree / "etc/hosts", 4711, -1)


def change_link(tree: Path) -> None:
    (tree / "bin").unlink()
    (tree / "bin").symlink_to("usr/sbin")


def change_attribute(tree: Path) -> None:
    os.setxattr(tree / "etc/hosts", "user.x", b"1")


def change_kind(tree: Path) -> None:
    (tree / "etc/hosts").unlink()
    os.mkfifo(tree / "etc/hosts", 0o644)


@pytest.mark.system
@pytest.mark.parametrize(
    ("change", "path"),
    [
        (change_byte, "etc/hosts"),
        (change_mode, "etc/hosts"),
        (change_owner, "etc/hosts"),
        (change_attribute, "etc/hosts"),
        (change_kind, "etc/hosts"),
        (change_link, "bin"),
    ],
)
def test_every_change_is_found_and_named(tree: Path, change: Callable[[Path], None], path: str) -> None:
    before, digest = list(contents.lines(tree)), contents.digest(tree)
    change(tree)
    (found,) = contents.differences(before, contents.lines(tree))
    assert found.startswith(f"{path} changed: ")
    assert contents.digest(tree) != digest


def test_what_is_new_and_what_is_missing(tree: Path) -> None:
    before = list(contents.lines(tree))
    (tree / "etc/hosts").rename(tree / "etc/guests")
    assert contents.differences(before, contents.lines(tree)) == ["etc/guests is new", "etc/hosts is missing"]


def test_times_are_no_change(tree: Path) -> None:
    before = contents.digest(tree)
    os.utime(tree / "etc/hosts", (1, 1))
    os.utime(tree, (1, 1))
    assert contents.digest(tree) == before


def test_names_are_bytes(tree: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tree) + b"/a\xff b\nc\\"))).write_text("")
    (line,) = [line for line in contents.lines(tree) if line.startswith("a")]
    assert line.split(" ")[0] == "a\\xff\\x20b\\x0ac\\x5c"


def test_no_link_is_followed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tree / "out").symlink_to(tmp_path / "outside")
    before = contents.digest(tree)
    (tmp_path / "outside/file").write_text("x")
    assert contents.digest(tree) == before


def test_a_file_with_two_names_is_counted_once(tree: Path) -> None:
    assert contents.size_bytes(tree) == 1
    (tree / "etc/guests").hardlink_to(tree / "etc/hosts")
    assert contents.size_bytes(tree) == 1
    listed = [line.split(" ", 1)[1] for line in contents.lines(tree) if " f " in line]
    assert listed[0] == listed[1]


def test_sockets_and_fifos_are_named_and_not_opened(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(tree, os.O_PATH)
        listener.bind(f"/proc/self/fd/{directory}/socket")  # its whole path may be too long for an address
        os.close(directory)
    kinds = {line.split(" ")[0]: line.split(" ")[1] for line in contents.lines(tree)}
    assert (kinds["fifo"], kinds["socket"]) == ("p", "s")
    assert contents.devices(tree) == ["fifo"]
