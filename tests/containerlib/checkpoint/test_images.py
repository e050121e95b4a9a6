"""Images on disk: which may be restored, and that there is never half a one."""

import dataclasses
import os
from pathlib import Path

import pytest

from containerlib.checkpoint import images
from containerlib.checkpoint.images import Host, Image, Library, Manifest, Moment, NoImage
from containerlib.spec import Checkpoint, ContainerSpec

MANIFEST = Manifest(
    name="web", moment=Moment.READY, criu="4.2.1", kernel="6.18", definition="d1", base=300_000, init=True,
    mounts=(("usr", "/usr"),), libraries=(), taken=1.0,
)  # fmt: skip
HOST = Host("4.2.1", "6.18", ())


@pytest.mark.parametrize(
    ("manifest", "host", "why"),
    [
        ({}, {}, ""),
        ({"format": 0}, {}, "it has format 0, not 1"),
        ({}, {"criu": "4.3"}, "it was taken by CRIU 4.2.1, here is 4.3"),
        ({}, {"kernel": "6.19"}, "it was taken on kernel 6.18, here is 6.19"),
        ({"definition": "d0"}, {}, "its definition has changed since"),
        ({"base": 301_024}, {}, "its user ids begin at 301024, not at 300000"),
        ({}, {"changed": ("/usr/bin/php",)}, "/usr/bin/php changed since"),
        ({}, {"changed": ("/usr/bin/php", "/usr/lib/a", "/usr/lib/b")}, "/usr/bin/php and 2 more changed since"),
    ],
)
def test_what_has_changed_forbids_a_restore(manifest: dict[str, object], host: dict[str, object], why: str) -> None:
    own, here = dataclasses.replace(MANIFEST, **manifest), dataclasses.replace(HOST, **host)  # type: ignore[arg-type]
    assert images.why_not(own, here, definition="d1", base=300_000) == why


def made(directory: Path, taken: float = 1.0) -> Image:
    with images.making(directory) as fresh:
        (fresh / "core-1.img").write_bytes(b"12345")
        return images.keep(fresh, dataclasses.replace(MANIFEST, taken=taken))


def test_the_newest_is_kept_and_read(tmp_path: Path) -> None:
    made(tmp_path / "web")
    image = made(tmp_path / "web", taken=100.0)
    assert images.newest(tmp_path / "web") == image
    assert images.versions(tmp_path / "web") == [image.directory]
    assert image.manifest.size_bytes == 5
    assert (tmp_path / "web").stat().st_mode & 0o777 == 0o700  # memory is secret
    images.remove(image)
    with pytest.raises(NoImage, match="there is no image in"):
        images.newest(tmp_path / "web")


def test_one_that_fails_half_way_leaves_the_one_before(tmp_path: Path) -> None:
    before = made(tmp_path)
    with pytest.raises(OSError, match="disk full"), images.making(tmp_path) as fresh:
        (fresh / "core-1.img").write_bytes(b"1")
        raise OSError("disk full")
    assert [each.name for each in tmp_path.iterdir()] == [before.directory.name]
    assert images.newest(tmp_path) == before


def test_what_somebody_left_who_died_is_cleared_away_and_what_somebody_makes_is_not(tmp_path: Path) -> None:
    (tmp_path / ".dumping-dead").mkdir()
    with images.making(tmp_path) as first:
        assert not (tmp_path / ".dumping-dead").exists()
        with images.making(tmp_path):
            assert first.exists()


@pytest.mark.parametrize("damage", [b"{}", b"", None])
def test_what_is_not_whole_is_no_image(tmp_path: Path, damage: bytes | None) -> None:
    image = made(tmp_path)
    if damage is None:
        (image.directory / "core-1.img").write_bytes(b"123")
    else:
        (image.directory / "manifest.json").write_bytes(damage)
    with pytest.raises(NoImage, match="damaged" if damage is None else "holds no image that can be read"):
        images.newest(tmp_path)


def test_a_library_that_is_replaced_counts_as_changed(tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(b"1")
    status = path.stat()
    known = (Library(str(path), status.st_size, status.st_mtime_ns),)
    assert images.changed(known) == ()
    os.utime(path, ns=(0, 0))
    assert images.changed(known) == (str(path),)
    path.unlink()
    assert images.changed(known) == (str(path),)


def test_the_libraries_of_a_process_are_those_that_it_has_mapped() -> None:
    found = images.libraries([os.getpid(), 1 << 22])
    assert all(each.path.startswith("/usr/") and each.size > 0 for each in found)
    assert any("libc" in each.path for each in found)


def test_a_definition_that_says_something_else_has_another_digest() -> None:
    one = ContainerSpec("web", ("php",), checkpoint=Checkpoint())
    assert images.digest(one) == images.digest(dataclasses.replace(one))
    assert images.digest(one) != images.digest(dataclasses.replace(one, env={"A": "1"}))
