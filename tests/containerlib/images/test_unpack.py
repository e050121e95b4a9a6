"""Archives of unknown origin."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
from pathlib import Path

import pytest
import zstandard

from containerlib.images import Bench, contents
from containerlib.images.unpack import leaves_root, refusal
from containerlib.programs import ProgramError


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **more: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    for key, value in {"mode": 0o755 if kind == tarfile.DIRTYPE else 0o644, **more}.items():
        setattr(info, key, value)
    return info


def tar_bytes(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for each in members:
            info, data = each if isinstance(each, tuple) else (each, b"")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (member("etc/hosts"), None),
        (member("./etc/hosts"), None),
        (member("..data"), None),
        (member("bin", tarfile.SYMTYPE, "usr/bin"), None),
        (member("etc/alternatives/php", tarfile.SYMTYPE, "/usr/bin/php"), None),
        (member("usr/lib/x", tarfile.SYMTYPE, "../../bin/x"), None),
        (member("etc/guests", tarfile.LNKTYPE, "etc/hosts"), None),
        (member("/etc/hosts"), "absolute"),
        (member("../etc/hosts"), "'..'"),
        (member("a/../../etc/hosts"), "'..'"),
        (member("bin", tarfile.SYMTYPE, "../bin"), "leaves the root"),
        (member("a/b", tarfile.SYMTYPE, "../../etc"), "leaves the root"),
        (member("./a/b", tarfile.SYMTYPE, "../../etc"), "leaves the root"),
        (member("a", tarfile.SYMTYPE, "/../etc"), "leaves the root"),
        (member("a", tarfile.LNKTYPE, "/etc/shadow"), "leaves the root"),
        (member("a", tarfile.LNKTYPE, "../shadow"), "leaves the root"),
        (member("sda", tarfile.BLKTYPE), "device"),
        (member("null", tarfile.CHRTYPE), "device"),
        (member("fifo", tarfile.FIFOTYPE), "device"),
        (member("x", b"Z"), "unknown type"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else None,
)
def test_rules(info: tarfile.TarInfo, words: str | None) -> None:
    reason = refusal(info, devices=False)
    assert (reason is None) if words is None else (reason is not None and words in reason)


def test_devices_when_asked_for() -> None:
    assert refusal(member("null", tarfile.CHRTYPE), devices=True) is None


@pytest.mark.parametrize(
    ("name", "target", "leaves"),
    [
        ("a/b/c", "../..", False),
        ("a/b/c", "../../..", True),
        ("a", "b/../..", True),
        ("a", "b/./..", False),
        ("a", "/", False),
    ],
)
def test_links(name: str, target: str, leaves: bool) -> None:
    assert leaves_root(name, target) is leaves


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.mark.system
@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_compressions(bench: Bench, root: Path, archive: Path, compress: object) -> None:
    assert callable(compress)
    archive.write_bytes(compress(tar_bytes(member("etc", tarfile.DIRTYPE), (member("etc/hosts"), b"x" * 100_000))))
    bench.unpack(archive, root, timeout_s=20)
    assert (root / "etc/hosts").read_bytes() == b"x" * 100_000


@pytest.mark.system
def test_owners_modes_links_and_attributes(bench: Bench, root: Path, archive: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw+ep
    attributes = {"SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")}
    archive.write_bytes(
        tar_bytes(
            member(".", tarfile.DIRTYPE, mode=0o750, uid=5),
            (member("etc/passwd"), b"root:x:5:5::/:\n"),  # by name the next would be user 5
            member("bin", tarfile.DIRTYPE, mode=0o1777, uid=4711, gid=4712, mtime=1_000),
            (member("bin/numbers", uid=4711, gid=4712, uname="root", gname="root"), b""),
            (member("bin/su", mode=0o4755, uid=4711, gid=4712, mtime=2_000), b"su"),
            member("bin/sudo", tarfile.LNKTYPE, "bin/su", mode=0o4755, uid=4711, gid=4712, mtime=2_000),
            (member("bin/ping", pax_headers=attributes, uid=1), b"ping"),
            member("sh", tarfile.SYMTYPE, "/bin/busybox", uid=3),
        )
    )
    bench.unpack(archive, root, timeout_s=20)
    info = (root / "bin/su").stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode), info.st_mtime) == (4711, 4712, 0o4755, 2_000)
    assert (root / "bin/sudo").samefile(root / "bin/su")
    assert os.getxattr(root / "bin/ping", "security.capability") == capability
    assert str((root / "sh").readlink()) == "/bin/busybox" and (root / "sh").lstat().st_uid == 3
    assert (root / "bin/numbers").stat().st_uid == 4711
    directory = (root / "bin").stat()
    assert (directory.st_uid, stat.S_IMODE(directory.st_mode), directory.st_mtime) == (4711, 0o1777, 1_000)
    assert (root.stat().st_uid, stat.S_IMODE(root.stat().st_mode)) == (5, 0o750)


@pytest.mark.system
def test_nothing_is_written_through_a_link_out_of_the_root(
    bench: Bench, root: Path, archive: Path, tmp_path: Path
) -> None:
    """The links are what every root has, absolute ones; what is written through them must land inside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("whole")
    archive.write_bytes(
        tar_bytes(
            member("way", tarfile.SYMTYPE, str(outside)),
            member(str(outside)[1:], tarfile.DIRTYPE),
            (member("way/new"), b"x"),
            (member("way/victim"), b"x"),
            member("file", tarfile.SYMTYPE, f"{outside}/victim"),
            (member("file"), b"replaced"),
        )
    )
    bench.unpack(archive, root, timeout_s=20)
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_text() == "whole"
    assert (root / str(outside)[1:] / "new").read_text() == "x"
    assert not (root / "file").is_symlink() and (root / "file").read_text() == "replaced"


@pytest.mark.system
def test_the_rules_hold_in_the_process_that_unpacks(bench: Bench, root: Path, archive: Path) -> None:
    archive.write_bytes(tar_bytes((member("first"), b"x"), (member("../escape"), b"x")))
    with pytest.raises(ProgramError, match=r"'\.\./escape' is refused: its path holds '\.\.'"):
        bench.unpack(archive, root, timeout_s=20)
    assert not (root.parent / "escape").exists()


@pytest.mark.system
def test_a_file_is_replaced_and_its_other_names_are_not(bench: Bench, root: Path, archive: Path) -> None:
    archive.write_bytes(tar_bytes((member("a"), b"old"), member("b", tarfile.LNKTYPE, "a"), (member("a"), b"new")))
    bench.unpack(archive, root, timeout_s=20)
    assert ((root / "a").read_text(), (root / "b").read_text()) == ("new", "old")


@pytest.mark.system
def test_a_directory_over_a_link_to_one_keeps_the_link(bench: Bench, root: Path, archive: Path) -> None:
    """As packages of a merged /usr have it."""
    archive.write_bytes(
        tar_bytes(
            member("usr/bin", tarfile.DIRTYPE),
            member("bin", tarfile.SYMTYPE, "usr/bin"),
            member("bin", tarfile.DIRTYPE),
            (member("bin/x"), b"x"),
        )
    )
    bench.unpack(archive, root, timeout_s=20)
    assert (root / "bin").is_symlink() and (root / "usr/bin/x").exists()


@pytest.mark.system
def test_devices_are_made_when_asked_for(bench: Bench, root: Path, archive: Path) -> None:
    archive.write_bytes(
        tar_bytes(member("null", tarfile.CHRTYPE, devmajor=1, devminor=3), member("fifo", tarfile.FIFOTYPE))
    )
    with pytest.raises(ProgramError, match="device"):
        bench.unpack(archive, root, timeout_s=20)
    bench.unpack(archive, root, timeout_s=20, devices=True)
    assert contents.devices(root) == ["fifo", "null"]


@pytest.mark.system
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no archive" * 100, "archive: "),
        (gzip.compress(tar_bytes((member("a"), os.urandom(100_000))))[:50_000], "archive: "),
        (lzma.compress(tar_bytes((member("a"), os.urandom(100_000))))[:50_000], "archive: "),
        (zstandard.compress(tar_bytes((member("a"), os.urandom(100_000))))[:50_000], "archive: "),
        (tar_bytes((member("a"), b"x" * 100_000))[:50_000], "archive: "),
        (b"", "archive: "),
    ],
)
def test_what_is_broken_off_is_refused(bench: Bench, root: Path, archive: Path, data: bytes, words: str) -> None:
    archive.write_bytes(data)
    with pytest.raises(ProgramError, match=words) as caught:
        bench.unpack(archive, root, timeout_s=20)
    assert not any("Traceback" in line for line in caught.value.tail)


@pytest.mark.system
def test_owners_by_name_are_the_roots_own(bench: Bench, busybox: Path, archive: Path) -> None:
    archive.write_bytes(tar_bytes((member("a", uname="web", gname="web"), b""), (member("b", uid=7, gid=8), b"")))
    bench.unpack(archive, busybox, timeout_s=20, onto=True)
    owners = [((busybox / name).stat().st_uid, (busybox / name).stat().st_gid) for name in "ab"]
    assert owners == [(4711, 4712), (7, 8)]
    archive.write_bytes(tar_bytes((member("a", uname="nobody-here"), b"")))
    with pytest.raises(ProgramError, match="owner 'nobody-here' is not in the root's /etc/passwd"):
        bench.unpack(archive, busybox, timeout_s=20, onto=True)
