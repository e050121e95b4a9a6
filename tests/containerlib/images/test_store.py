"""Versions: in order, checked, removed when nobody needs them."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from containerlib.bootstrap.function import Function
from containerlib.images import Image, ImageError, Progress, Store, build, mark, verify
from containerlib.images.store import is_full

pytestmark = pytest.mark.system


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def make(root: Path, _progress: Progress) -> None:
    (root / "file").write_text("x")


def versions(store: Store, count: int, name: str = "box") -> list[Image]:
    """Newest first."""
    built = [build(store, name, Function(make, str(number)), clock=lambda: 1_000_000_000) for number in range(count)]
    return built[::-1]


@pytest.mark.parametrize("name", ["", ".lock", "../x", "a/b", "A", "x" * 64])
def test_names(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="image name"):
        store.directory(name)


def test_revisions_are_newest_first_whatever_the_clock_says(store: Store) -> None:
    images = versions(store, 3)
    assert store.revisions("box") == images
    assert [image.manifest.built for image in images] == [1_000_000_002, 1_000_000_001, 1_000_000_000]
    assert [image.version[:15] for image in images] == ["20010909-014642", "20010909-014641", "20010909-014640"]
    assert store.newest("box") == images[0]
    assert store.get("box", images[1].version) == images[1]
    assert store.names() == ["box"]


def test_of_what_was_never_built(store: Store) -> None:
    assert (store.names(), store.revisions("box"), store.newest("box"), store.remove_unused("box")) == (
        [],
        [],
        None,
        [],
    )
    with pytest.raises(ImageError, match="image box has no version '1'; it has: none"):
        store.get("box", "1")
    assert not store.path.exists()


@pytest.mark.parametrize(
    ("used", "keep", "left"),
    [((), 1, [0]), ((2,), 1, [0, 2]), ((), 2, [0, 1]), ((3,), 0, [3]), ((0, 1), 1, [0, 1]), ((), 9, [0, 1, 2, 3])],
)
def test_what_is_used_and_the_newest_stay(store: Store, used: tuple[int, ...], keep: int, left: list[int]) -> None:
    images = versions(store, 4)
    removed = store.remove_unused("box", {images[number].version for number in used}, keep=keep)
    assert store.revisions("box") == [images[number] for number in left]
    assert set(removed) == {image.version for image in images} - {images[number].version for number in left}
    assert {path.name for path in (store.path / "box").iterdir()} == {
        ".lock",
        *(images[number].version for number in left),
    }


def test_what_a_process_is_marked_to_live_on_stays_as_long_as_it_lives(store: Store) -> None:
    newest, used, unused = versions(store, 3)
    with subprocess.Popen(("sleep", "100")) as living:
        mark(used, living.pid)
        mark(unused, living.pid)
        (ended,) = (store.path / "box/.used").glob(f"{unused.version}.*")
        ended.rename(ended.with_name(f"{unused.version}.{living.pid}-1"))  # of a process that had this number before
        assert store.remove_unused("box") == [unused.version]
        assert [each.name.partition(".")[0] for each in (store.path / "box/.used").iterdir()] == [used.version]
        assert (store.path / "box/.used").stat().st_mode & 0o077 == 0
        living.kill()
    assert store.remove_unused("box") == [used.version]
    assert store.revisions("box") == [newest] and list((store.path / "box/.used").iterdir()) == []


def test_a_negative_keep_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="keep -1: must be 0 or more"):
        store.remove_unused("box", keep=-1)


def test_nothing_is_removed_during_a_build(store: Store) -> None:
    versions(store, 2)
    with store.lock("box"):
        assert store.remove_unused("box") == []
        with pytest.raises(BlockingIOError), store.lock("box"):
            pass
    assert len(store.revisions("box")) == 2
    assert len(store.remove_unused("box")) == 1


def test_a_dead_builders_leavings_go_with_the_next_lock_and_nothing_else(store: Store) -> None:
    (image,) = versions(store, 1)
    directory = store.path / "box"
    (directory / ".building-dead/root/etc").mkdir(parents=True)
    (directory / ".removing-dead").mkdir()
    (directory / "notes").mkdir()
    neighbour = store.path / "other/.building-alive"
    neighbour.mkdir(parents=True)
    with store.lock("box"):
        assert {path.name for path in directory.iterdir()} == {".lock", "notes", image.version}
    assert neighbour.exists()


def test_nobody_else_may_enter_a_version(store: Store) -> None:
    (image,) = versions(store, 1)
    assert oct(image.path.stat().st_mode & 0o777) == oct((store.path / "box").stat().st_mode & 0o777) == "0o700"
    assert oct(image.root.stat().st_mode & 0o777) == "0o755"


def no_manifest(image: Image) -> None:
    (image.path / "manifest.json").unlink()


def half_a_manifest(image: Image) -> None:
    path = image.path / "manifest.json"
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("damage", [no_manifest, half_a_manifest])
def test_a_damaged_version_is_named_with_what_to_do(store: Store, damage: Callable[[Image], None]) -> None:
    (image,) = versions(store, 1)
    damage(image)
    with pytest.raises(ImageError, match=rf"{image.path}.*remove the directory, then build again"):
        store.revisions("box")


def test_verify(store: Store) -> None:
    (image,) = versions(store, 1)
    assert verify(image) == []
    os.chmod(image.root / "file", 0o4755)  # noqa: PTH101
    (image.root / "new").write_text("")
    changed, new = verify(image)
    assert changed.startswith("file changed: f 644") and new == "new is new"


def test_verify_does_not_believe_a_changed_list(store: Store) -> None:
    (image,) = versions(store, 1)
    (image.root / "file").write_text("y")
    listing = image.path / "contents"
    lines = listing.read_text().splitlines()
    (image.path / "contents").write_text("\n".join(lines[:-1]))
    (found,) = verify(image)
    assert "contents itself was changed" in found


def test_full(tmp_path: Path) -> None:
    assert not is_full(tmp_path)
    assert is_full(Path("/proc"))  # has no block to give
