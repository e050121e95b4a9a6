"""Unpacks a tar archive of unknown origin, locked in the directory that it unpacks into.

    python -I containerlib/images/unpack.py '{"archive": FILE, "root": DIRECTORY, "devices": false, "onto": false}'

tarfile's own filter `data` is for other archives: it takes away owners and setuid bits and refuses absolute links, of which every
root filesystem is made. So its rules are here anew for a root, `refusal`, and as no rule about names has ever caught everything,
this process enters the directory (chroot) before it reads the first name: a link that leads out leads nowhere.
With `onto` there is a root already: its directories keep their owners and modes, and an owner given by name is looked up in its
own passwd and group.
"""

import bz2
import gzip
import json
import lzma
import os
import sys
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import zstandard

ATTRIBUTE = "SCHILY.xattr."  # where GNU tar, bsdtar and the OCI format keep extended attributes
KEPT_ATTRIBUTES = ("security.capability", "user.")


class RefusedError(Exception):
    """A member that an archive of a root has no reason to hold."""


def refusal(member: tarfile.TarInfo, *, devices: bool) -> str | None:
    """Why the archive is refused for it; None: it may be unpacked. Pure."""
    if member.name.startswith("/"):
        return "its path is absolute"
    if ".." in member.name.split("/"):
        return "its path holds '..'"
    if member.issym() and leaves_root(member.name, member.linkname):
        return f"it is a link to {member.linkname!r}, which leaves the root"
    if member.islnk() and (member.linkname.startswith("/") or ".." in member.linkname.split("/")):
        return f"it is a hard link to {member.linkname!r}, which leaves the root"
    if member.isdev():  # FIFOs too, which would hold up whoever opens them
        return None if devices else "it is a device file or FIFO"
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        return f"it is of the unknown type {member.type!r}"
    return None


def leaves_root(name: str, target: str) -> bool:
    """Whether a link's target, read from where it lies, climbs above the root. An absolute one begins at the root, as it does in a
    container."""
    depth = 0 if target.startswith("/") else len([part for part in PurePosixPath(name).parent.parts if part != "."])
    for part in target.split("/"):
        if part in ("", "."):
            continue
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def open_archive(path: Path) -> BinaryIO:
    """Decompressed; which way is told by its first bytes, not by its name."""
    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.open(path))
    if magic.startswith(b"BZh"):
        return cast(BinaryIO, bz2.open(path))
    if magic == b"\xfd7zXZ\x00":
        return cast(BinaryIO, lzma.open(path))
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return cast(BinaryIO, zstandard.open(path, "rb"))
    return path.open("rb")


def unpack(stream: BinaryIO, *, devices: bool, onto: bool) -> None:
    """Into the current directory, which is to be the root of this process. Raises RefusedError, OSError, tarfile.TarError."""

    def admit(member: tarfile.TarInfo, _path: str) -> tarfile.TarInfo | None:
        reason = refusal(member, devices=devices)
        if reason is not None:
            raise RefusedError(f"{member.name!r} is refused: {reason}")
        if onto and member.isdir() and Path(member.name).is_dir():
            return None
        if not member.isdir():
            _make_way(member.name)
        return _with_owner(member) if onto else member

    # errorlevel 2: an owner or mode that cannot be set is an error and not a note.
    with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as archive:
        archive.extractall(filter=admit, numeric_owner=True)
        for member in archive.getmembers():
            _set_attributes(member)


def _make_way(name: str) -> None:
    """What is there is replaced, as tar does: opened for writing, a link's target or a file's other names would change as well."""
    try:
        os.unlink(name)  # noqa: PTH108
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return


def _with_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    uid = _look_up("etc/passwd", member.uname) if member.uname else member.uid
    gid = _look_up("etc/group", member.gname) if member.gname else member.gid
    return member.replace(uid=uid, gid=gid, deep=False)


def _look_up(path: str, name: str) -> int:
    """The getpwnam of the C library would load modules from the root."""
    try:
        rows = [line.split(":") for line in Path(path).read_text(errors="replace").splitlines()]
    except FileNotFoundError:
        rows = []
    for row in rows:
        if row[0] == name and len(row) > 2 and row[2].isdecimal():
            return int(row[2])
    raise RefusedError(f"owner {name!r} is not in the root's /{path}")


def _set_attributes(member: tarfile.TarInfo) -> None:
    """After the owner, whose change takes file capabilities away."""
    for key, value in member.pax_headers.items():
        name = key.removeprefix(ATTRIBUTE)
        if key.startswith(ATTRIBUTE) and name.startswith(KEPT_ATTRIBUTES) and member.isreg():
            os.setxattr(member.name, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)


def main() -> None:
    order = json.loads(sys.argv[1])
    try:
        with open_archive(Path(order["archive"])) as stream:
            os.chroot(order["root"])
            os.chdir("/")
            sys.meta_path.clear()  # no module is imported from among the archive's files
            unpack(stream, devices=order["devices"], onto=order["onto"])
    except (
        RefusedError,
        OSError,
        tarfile.TarError,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        zstandard.ZstdError,
    ) as error:
        sys.exit(f"{order['archive']}: {error}")


if __name__ == "__main__":
    main()
