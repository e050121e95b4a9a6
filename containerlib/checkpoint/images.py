"""Images of running containers on disk: a directory for each container, in it one for each version, whole or not at all.

    DIRECTORY/VERSION/manifest.json    what it is, and what must be the same for it to be restored
    DIRECTORY/VERSION/root.tar         its files outside of mounts: /tmp, /run, /var, /home
    DIRECTORY/VERSION/*.img            CRIU's: memory, descriptors, namespaces
    DIRECTORY/.dumping-*               one that is being made, locked by who makes it

Memory of a program holds its secrets: only root may enter DIRECTORY.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import msgspec

from containerlib.describe import plain
from containerlib.spec import ContainerSpec

FORMAT = 1
MANIFEST = "manifest.json"
_DUMPING = ".dumping-"


class Moment(StrEnum):
    """Of a life, at which an image was taken."""

    HALTED = "halted"  # right before a system call, such as listen(): what is restored of it is let go on
    READY = "ready"
    WARMED = "warmed"  # after a request


class NoImage(Exception):
    """There is none, or none that may be restored; the text says why."""


@dataclass(frozen=True, slots=True)
class Library:
    """A file that a process had mapped: other contents at the same place in memory would be nonsense."""

    path: str
    size: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """`mounts`: (key, target) of what was mounted from outside. `base`: the first of its ids on the host. `definition`: a digest.
    `init`: PID 1 is not the program itself. `taken`: Unix time."""

    name: str
    moment: Moment
    criu: str
    kernel: str
    definition: str
    base: int
    init: bool
    mounts: tuple[tuple[str, str], ...]
    libraries: tuple[Library, ...]
    taken: float
    source: str = ""  # file and line of its definition
    size_bytes: int = 0
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Image:
    directory: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Host:
    """What an image is to be restored by. `changed`: of its libraries those that are not what they were."""

    criu: str
    kernel: str
    changed: tuple[str, ...]


def why_not(manifest: Manifest, host: Host, *, definition: str, base: int) -> str:
    """Pure: why this image may not be restored; empty if it may."""
    if manifest.format != FORMAT:
        return f"it has format {manifest.format}, not {FORMAT}"
    if manifest.criu != host.criu:
        return f"it was taken by CRIU {manifest.criu}, here is {host.criu}"
    if manifest.kernel != host.kernel:
        return f"it was taken on kernel {manifest.kernel}, here is {host.kernel}"
    if manifest.definition != definition:
        return "its definition has changed since"
    if manifest.base != base:
        return f"its user ids begin at {manifest.base}, not at {base}"
    if host.changed:
        more = f" and {len(host.changed) - 1} more" if len(host.changed) > 1 else ""
        return f"{host.changed[0]}{more} changed since"
    return ""


def digest(spec: ContainerSpec, filter: bytes | None = None) -> str:
    """Of a definition, hooks by their names: what an image was taken of. `filter`: of system calls, where it is its own; what a
    file said of it when the image was taken holds on in whatever is restored."""
    return hashlib.sha256(json.dumps(plain(spec), sort_keys=True).encode() + (filter or b"")).hexdigest()[:16]


def kernel_release() -> str:
    return os.uname().release


def libraries(pids: Iterable[int]) -> tuple[Library, ...]:
    """Files that these processes have mapped and that lie in the host's /usr, which containers see as theirs."""
    paths: set[str] = set()
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                words = line.split(maxsplit=5)
                if len(words) == 6 and words[5].startswith("/usr/"):
                    paths.add(words[5])
    return tuple(each for path in sorted(paths) if (each := _library(path)) is not None)


def _library(path: str) -> Library | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return Library(path, status.st_size, status.st_mtime_ns)


def changed(known: Iterable[Library]) -> tuple[str, ...]:
    return tuple(each.path for each in known if _library(each.path) != each)


@contextmanager
def making(directory: Path) -> Iterator[Path]:
    """A directory for an image that is being made; it goes with the block unless `keep` has made it a version."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _clear(directory)
    fresh = Path(tempfile.mkdtemp(prefix=_DUMPING, dir=directory))
    # Restored processes open images by a descriptor of it, as root of their own user namespace, who is nobody here.
    fresh.chmod(0o755)
    lock = os.open(fresh, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield fresh
    finally:
        if fresh.exists():
            shutil.rmtree(fresh)
        os.close(lock)


def keep(fresh: Path, manifest: Manifest) -> Image:
    """Makes it the newest version, and removes those before it."""
    manifest = replace(manifest, size_bytes=_size(fresh))
    (fresh / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(manifest.taken))
    place = fresh.parent / f"{stamp}-{fresh.name.removeprefix(_DUMPING)}"
    fresh.rename(place)
    for old in versions(fresh.parent):
        if old != place:
            shutil.rmtree(old, ignore_errors=True)
    return Image(place, manifest)


def _size(directory: Path) -> int:
    return sum(each.stat().st_size for each in directory.iterdir() if each.name != MANIFEST)


def versions(directory: Path) -> list[Path]:
    """The newest last."""
    if not directory.is_dir():
        return []
    return sorted(each for each in directory.iterdir() if each.is_dir() and not each.name.startswith("."))


def newest(directory: Path) -> Image:
    """Raises NoImage."""
    if not (found := versions(directory)):
        raise NoImage(f"there is no image in {directory}")
    return read(found[-1])


def read(directory: Path) -> Image:
    """Of one version. Raises NoImage for what is none, or not whole."""
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise NoImage(f"{directory} holds no image that can be read: {error}") from error
    if _size(directory) != manifest.size_bytes:
        raise NoImage(f"{directory} is damaged: it has not the size that it was made with")
    return Image(directory, manifest)


def remove(image: Image) -> None:
    """One that cannot be restored."""
    shutil.rmtree(image.directory, ignore_errors=True)


def _clear(directory: Path) -> None:
    """What was left by whoever died while making one."""
    for left in directory.glob(f"{_DUMPING}*"):
        try:
            lock = os.open(left, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            pass  # somebody is at it
        finally:
            os.close(lock)
