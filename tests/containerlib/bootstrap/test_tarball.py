"""An archive as an image; what archives may hold is tested in images/test_unpack.py."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from containerlib.bootstrap.tarball import Tarball
from containerlib.images import Bench, ImageError, Store, build


def write_archive(path: Path, name: str = "etc/hosts", kind: bytes = tarfile.REGTYPE) -> Path:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.type = kind
        tar.addfile(info)
    path.write_bytes(gzip.compress(file.getvalue(), mtime=0))
    return path


@pytest.mark.system
def test_a_root_of_an_archive(tmp_path: Path, root: Path, bench: Bench) -> None:
    Tarball(write_archive(tmp_path / "x.tar.gz")).build(root, bench)
    assert (root / "etc/hosts").exists()


@pytest.mark.system
@pytest.mark.parametrize(
    ("name", "kind"), [("../x", tarfile.REGTYPE), ("/x", tarfile.REGTYPE), ("fifo", tarfile.FIFOTYPE)]
)
def test_a_hostile_archive_gives_no_image(tmp_path: Path, name: str, kind: bytes) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(ImageError, match=r"image box: bootstrap failed: (?s:.*)is refused: "):
        build(store, "box", Tarball(write_archive(tmp_path / "x.tar.gz", name, kind)))
    assert store.revisions("box") == []


@pytest.mark.system
def test_devices_when_asked_for(tmp_path: Path, root: Path, bench: Bench) -> None:
    archive = write_archive(tmp_path / "x.tar.gz", "fifo", tarfile.FIFOTYPE)
    Tarball(archive, devices=True).build(root, bench)
    assert (root / "fifo").is_fifo()


def test_the_recipe_is_the_archives_contents(tmp_path: Path) -> None:
    one = Tarball(write_archive(tmp_path / "one")).recipe()
    assert Tarball(write_archive(tmp_path / "two")).recipe() == one
    assert Tarball(write_archive(tmp_path / "two", "etc/other")).recipe() != one
    assert Tarball(tmp_path / "one", devices=True).recipe() != one


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match=r"Tarball\.archive PosixPath\('x'\): must be an absolute path of the host"):
        Tarball(Path("x"))
