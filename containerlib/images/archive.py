"""A tarball of an image: the same image gives the same bytes, whenever and wherever it is made."""

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, cast

from containerlib.images.store import Image
from containerlib.images.unpack import ATTRIBUTE, KEPT_ATTRIBUTES

Compression = Literal["gzip", "bzip2", "xz", "none"]
SUFFIXES: dict[str, Compression] = {".gz": "gzip", ".tgz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".tar": "none"}


def compression_of(target: Path) -> Compression:
    """By the file's name. Raises ValueError."""
    if target.suffix not in SUFFIXES:
        raise ValueError(f"archive {str(target)!r}: must end in one of {', '.join(SUFFIXES)}")
    return SUFFIXES[target.suffix]


def archive(
    image: Image,
    target: Path,
    compression: Compression | None = None,
    *,
    dry_run: bool = False,
    on_member: Callable[[str], None] = lambda _line: None,
) -> int:
    """Writes the image's root to `target`, compressed as its name says unless told otherwise; returns its size in bytes.

    `on_member` is told each member, as `tar tv` would. A dry run tells the same and writes nothing (0 bytes). `target` is replaced
    at once when the archive is complete and on disk. Raises OSError, ValueError.
    """
    how = compression or compression_of(target)
    if dry_run:
        with tarfile.open(fileobj=io.BytesIO(), mode="w") as nothing:
            for _, member in _members(nothing, image.root):
                on_member(describe(member))
        return 0
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with part.open("xb") as file:
            with _compressed(file, how) as stream:
                _write(image.root, stream, on_member)
            file.flush()
            os.fsync(file.fileno())
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)
    return target.stat().st_size


@contextlib.contextmanager
def _compressed(file: BinaryIO, how: Compression) -> Iterator[BinaryIO]:
    match how:
        case "none":
            yield file
        case "gzip":  # whose header would hold the time and the name
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as zipped:
                yield cast(BinaryIO, zipped)
        case "bzip2":
            with bz2.BZ2File(file, "wb") as zipped2:
                yield cast(BinaryIO, zipped2)
        case "xz":
            with lzma.LZMAFile(file, "wb") as zipped3:
                yield cast(BinaryIO, zipped3)


def _write(root: Path, stream: BinaryIO, on_member: Callable[[str], None]) -> None:
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for path, member in _members(tar, root):
            on_member(describe(member))
            if member.isreg():
                with path.open("rb") as file:
                    tar.addfile(member, file)
            else:
                tar.addfile(member)


def _members(tar: tarfile.TarFile, root: Path) -> Iterator[tuple[Path, tarfile.TarInfo]]:
    """The second name of a file becomes a link to the first. A socket is nobody's any more."""
    for path in (root, *_below(root)):
        if stat.S_ISSOCK(path.lstat().st_mode):
            continue
        member = tar.gettarinfo(path, str(path.relative_to(root)))
        member.uname = member.gname = ""  # the host's names for the image's numbers would be wrong
        member.mtime = int(member.mtime)
        if member.isreg():
            member.pax_headers = {f"{ATTRIBUTE}{key}": value for key, value in _attributes(path)}
        yield path, member


def _below(directory: Path) -> Iterator[Path]:
    """A directory before what is in it, names in order."""
    for path in sorted(directory.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)


def _attributes(path: Path) -> Iterator[tuple[str, str]]:
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return
        raise
    for name in names:
        if name.startswith(KEPT_ATTRIBUTES):
            yield name, os.getxattr(path, name, follow_symlinks=False).decode("utf-8", "surrogateescape")


def describe(member: tarfile.TarInfo) -> str:
    kind = {
        tarfile.DIRTYPE: "d",
        tarfile.SYMTYPE: "l",
        tarfile.LNKTYPE: "h",
        tarfile.CHRTYPE: "c",
        tarfile.BLKTYPE: "b",
    }
    link = f" -> {member.linkname}" if member.issym() or member.islnk() else ""
    mode = stat.filemode(member.mode)[1:]
    return f"{kind.get(member.type, '-')}{mode} {member.uid}/{member.gid} {member.size} {member.name}{link}"
