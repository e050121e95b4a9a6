"""What an image consists of, one line for each path, so that a change can be found and named.

    etc/hosts f 644 0:0 174 9f86d08...          path, kind, mode, owner, size, digest of the contents
    bin l 777 0:0 - ../usr/bin                  a link's target in place of the digest
    dev/null c 666 0:0 1:3 -                    a device's numbers in place of the size

Extended attributes (file capabilities, access lists) follow. Times and the number of hard links are not in it: they do not change
what a container sees. Every byte is read, which takes about a second for 500 MB; nothing cheaper finds a changed byte.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}
_OF_THE_HOST = ("security.selinux", "trusted.")  # labels that the host gives, whatever the image


@dataclass(frozen=True, slots=True)
class Summary:
    digest: str
    files: int
    size_bytes: int


def lines(root: Path) -> Iterator[str]:
    """In a fixed order. No link is followed. Raises OSError."""
    seen: dict[tuple[int, int], str] = {}
    top = os.fsencode(root)
    yield _line(b".", top, seen)
    stack = [top]
    while stack:
        directory = stack.pop()
        below = []
        for name in sorted(os.listdir(directory)):  # noqa: PTH208 - names are bytes
            path = directory + b"/" + name
            yield _line(path[len(top) + 1 :], path, seen)
            if stat.S_ISDIR(os.lstat(path).st_mode):
                below.append(path)
        stack += reversed(below)


def summary(listing: Iterable[str], root: Path) -> Summary:
    digest = hashlib.sha256()
    count = 0
    for line in listing:
        digest.update(line.encode() + b"\n")
        count += 1
    return Summary(digest.hexdigest(), count, size_bytes(root))


def digest(root: Path) -> str:
    return summary(lines(root), root).digest


def size_bytes(root: Path) -> int:
    """Of the files' contents; a file with several names counts once."""
    sizes = {}
    for directory, _, names in os.walk(root):
        for name in names:
            info = os.lstat(Path(directory) / name)
            if stat.S_ISREG(info.st_mode):
                sizes[info.st_dev, info.st_ino] = info.st_size
    return sum(sizes.values())


def devices(root: Path) -> list[str]:
    """Paths of device files and FIFOs, relative to the root."""
    kinds = (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO)
    found = []
    for directory, _, names in os.walk(root):
        paths = (Path(directory) / name for name in names)
        found += [str(path.relative_to(root)) for path in paths if stat.S_IFMT(path.lstat().st_mode) in kinds]
    return sorted(found)


def differences(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """Which paths are changed, missing or new, in words."""
    old, new = ({line.split(" ", 1)[0]: line for line in listing} for listing in (before, after))
    words = {path: "is missing" for path in old if path not in new}
    words |= {path: "is new" for path in new if path not in old}
    words |= {
        path: f"changed: {_rest(old[path])} -> {_rest(new[path])}"
        for path in old
        if old[path] != new.get(path, old[path])
    }
    return [f"{path} {words[path]}" for path in sorted(words)]


def _rest(line: str) -> str:
    return line.split(" ", 1)[1]


def _line(name: bytes, path: bytes, seen: dict[tuple[int, int], str]) -> str:
    info = os.lstat(path)
    size, content = "-", "-"
    if stat.S_ISREG(info.st_mode):
        size, content = str(info.st_size), _digest_of_file(path, info, seen)
    elif stat.S_ISLNK(info.st_mode):
        content = _escape(os.readlink(path))  # noqa: PTH115
    elif stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        size = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    kind, mode = _KINDS[stat.S_IFMT(info.st_mode)], stat.S_IMODE(info.st_mode)
    words = [_escape(name), kind, f"{mode:o}", f"{info.st_uid}:{info.st_gid}", size, content, *_attributes(path)]
    return " ".join(words)


def _digest_of_file(path: bytes, info: os.stat_result, seen: dict[tuple[int, int], str]) -> str:
    key = (info.st_dev, info.st_ino)
    if info.st_nlink > 1 and key in seen:
        return seen[key]
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
        seen[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return seen[key]


def _attributes(path: bytes) -> list[str]:
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise
    return [
        f"{_escape(os.fsencode(name))}={os.getxattr(path, name, follow_symlinks=False).hex()}"
        for name in names
        if not name.startswith(_OF_THE_HOST)
    ]


def _escape(text: bytes) -> str:
    """Names are bytes and may hold spaces and line ends."""
    return "".join(chr(byte) if 33 <= byte < 127 and byte != 92 else f"\\x{byte:02x}" for byte in text)
