"""Tarballs of images: complete, and the same each time."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from containerlib.bootstrap.directory import Directory
from containerlib.bootstrap.tarball import Tarball
from containerlib.images import Bench, Image, Store, archive, build
from containerlib.images.archive import compression_of

pytestmark = pytest.mark.system


@pytest.fixture
def image(tmp_path: Path) -> Image:
    tree = tmp_path / "tree"
    (tree / "b/c").mkdir(parents=True)
    (tree / "a").write_text("first")
    (tree / "b/z").hardlink_to(tree / "a")
    os.chown(tree / "a", 4711, 100_000_000)
    (tree / "a").chmod(0o4755)
    os.setxattr(tree / "a", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    (tree / "l").symlink_to("/b/../a")
    (Path(os.fsdecode(os.fsencode(tree) + b"/n\xff\n"))).write_text("name")
    (tree / ("d" * 200)).mkdir()
    return build(Store(tmp_path / "store"), "box", Directory(tree))


@pytest.mark.parametrize(
    ("name", "tar"), [("x.tar.gz", "-z"), ("x.tgz", "-z"), ("x.tar.bz2", "-j"), ("x.tar.xz", "-J"), ("x.tar", "")]
)
def test_tar_can_read_it(image: Image, tmp_path: Path, name: str, tar: str) -> None:
    size = archive(image, tmp_path / name)
    assert (tmp_path / name).stat().st_size == size
    done = subprocess.run(
        ["tar", "-t", *([tar] if tar else []), "-f", tmp_path / name], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["./", "a", "b/", "b/c/", "b/z", f"{'d' * 200}/", "l", "n\\377\\n"]


def test_what_comes_back_is_what_went_in(image: Image, tmp_path: Path) -> None:
    archive(image, tmp_path / "x.tar.xz")
    again = build(Store(tmp_path / "other"), "box", Tarball(tmp_path / "x.tar.xz"))
    assert again.manifest.contents == image.manifest.contents
    assert (again.root / "b/z").samefile(again.root / "a")


def test_the_same_image_gives_the_same_bytes(image: Image, tmp_path: Path) -> None:
    for name in ("one.tar.gz", "two.tar.gz"):
        archive(image, tmp_path / name)
    assert (tmp_path / "one.tar.gz").read_bytes()[4:8] == bytes(4)  # no time of its own
    copy = Image(tmp_path / "copy", image.manifest)
    subprocess.run(["cp", "-a", image.path, copy.path], check=True)
    archive(copy, tmp_path / "three.tar.gz")
    assert len({(tmp_path / f"{name}.tar.gz").read_bytes() for name in ("one", "two", "three")}) == 1


def test_a_dry_run_tells_the_same_and_writes_nothing(image: Image, tmp_path: Path) -> None:
    dry: list[str] = []
    wet: list[str] = []
    before = set(tmp_path.iterdir())
    assert archive(image, tmp_path / "x.tar.gz", dry_run=True, on_member=dry.append) == 0
    assert set(tmp_path.iterdir()) == before
    archive(image, tmp_path / "x.tar.gz", on_member=wet.append)
    assert dry == wet
    assert dry[1] == "-rwsr-xr-x 4711/100000000 5 a"
    assert "l" + "rwxrwxrwx 0/0 0 l -> /b/../a" in dry and "hrwsr-xr-x 4711/100000000 0 b/z -> a" in dry


def test_sockets_are_left_out(image: Image, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(image.root / "b", os.O_PATH)
        listener.bind(f"/proc/self/fd/{directory}/socket")  # its whole path is too long for an address
        os.close(directory)
    (image.root / "b/link").symlink_to(image.root / "b/socket")
    told: list[str] = []
    archive(image, tmp_path / "x.tar", on_member=told.append)
    assert [line.split()[3] for line in told if " b/" in line] == ["b/c", "b/link", "b/z"]


def test_what_fails_leaves_the_old_one(image: Image, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("old")

    def stop(_line: str) -> None:
        raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        archive(image, tmp_path / "x.tar", on_member=stop)
    assert set(tmp_path.iterdir()) == before and (tmp_path / "x.tar").read_text() == "old"


def test_a_name_that_tells_no_compression(image: Image, tmp_path: Path, bench: Bench) -> None:
    with pytest.raises(ValueError, match=r"archive '.*x\.zip': must end in one of \.gz, \.tgz"):
        archive(image, tmp_path / "x.zip")
    archive(image, tmp_path / "x.zip", "bzip2")
    assert shutil.disk_usage(tmp_path) and (tmp_path / "x.zip").read_bytes().startswith(b"BZh")
    assert compression_of(Path("a.tar.bz2")) == "bzip2"
