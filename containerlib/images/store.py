"""Where images lie: STORE/NAME/VERSION/{root/, contents, manifest.json}.

A version never changes and is complete: it is built beside, as STORE/NAME/.building-*, and renamed into place when everything is
on disk. STORE/NAME/.lock is held (flock) by whoever builds or removes; the kernel drops it with the last process of a build,
so what lies in `.building-*` while one holds the lock is a dead builder's, and goes. Whoever runs a container on a version
holds it (flock, shared), and nobody removes it meanwhile. An empty file STORE/NAME/.used/VERSION.PID-START names a container's
PID 1, which may outlive who holds: the version stays while that process lives. Images are root's, and no one else may enter a
version's directory on the host: there are setuid programs in it. Containers get `root` as a mount.
"""

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from containerlib import process
from containerlib.images import contents
from containerlib.images.manifest import Manifest

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
BUILDING = ".building-"
REMOVING = ".removing-"
_LOCK = ".lock"
USED = ".used"
_VERSION = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")


class ImageError(RuntimeError):
    """What failed, and what to do."""


@dataclass(frozen=True, slots=True)
class Image:
    path: Path
    manifest: Manifest

    @property
    def root(self) -> Path:
        """The root filesystem, to be mounted read-only."""
        return self.path / "root"

    @property
    def version(self) -> str:
        return self.manifest.version


@dataclass(frozen=True, slots=True)
class Store:
    path: Path

    def directory(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            rule = "must be 1 to 63 of a-z, 0-9, '.', '_' and '-', and begin with a letter or digit"
            raise ValueError(f"image name {name!r}: {rule}")
        return self.path / name

    def names(self) -> list[str]:
        if not self.path.is_dir():
            return []
        return sorted(
            each.name for each in self.path.iterdir() if NAME.fullmatch(each.name) and self.revisions(each.name)
        )

    def revisions(self, name: str) -> list[Image]:
        """Newest first. Raises ImageError if one is damaged."""
        directory = self.directory(name)
        if not directory.is_dir():
            return []
        versions = sorted((each for each in directory.iterdir() if _VERSION.fullmatch(each.name)), reverse=True)
        return [image for path in versions if (image := _read(path)) is not None]

    def newest(self, name: str) -> Image | None:
        return next(iter(self.revisions(name)), None)

    def find(self, name: str, recipe: str) -> Image | None:
        """The newest version built from this recipe."""
        return next((image for image in self.revisions(name) if image.manifest.recipe == recipe), None)

    def get(self, name: str, version: str) -> Image:
        """Raises ImageError if there is no such version."""
        found = next((image for image in self.revisions(name) if image.version == version), None)
        if found is None:
            known = ", ".join(image.version for image in self.revisions(name)) or "none"
            raise ImageError(f"image {name} has no version {version!r}; it has: {known}")
        return found

    @contextlib.contextmanager
    def lock(self, name: str, on_wait: Callable[[str], None] | None = None) -> Iterator[int]:
        """The name's only builder, with its predecessors' leavings gone. Yields the lock's descriptor.

        While another one holds it: `on_wait` is told who, and we wait; without `on_wait` BlockingIOError is raised.
        """
        directory = self.directory(name)
        self.path.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_wait is None:
                    raise
                on_wait(f"process {os.pread(fd, 20, 0).decode(errors='replace').strip() or '?'}")
                fcntl.flock(fd, fcntl.LOCK_EX)
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
            _remove_leavings(directory)
            yield fd
        finally:
            os.close(fd)

    def new_version(self, name: str, recipe: str, now: float) -> tuple[str, int]:
        """Its name and the second in it: later than all others, even if the clock was put back. Under the lock."""
        newest = self.newest(name)
        second = int(now) if newest is None else max(int(now), newest.manifest.built + 1)
        return f"{datetime.fromtimestamp(second, UTC):%Y%m%d-%H%M%S}-{recipe[:8]}", second

    def remove_unused(self, name: str, used: Iterable[str] = (), *, keep: int = 1) -> list[str]:
        """Removes versions but those in `used`, those that anybody holds or is marked to run on, and the `keep` newest; returns
        which. Nothing while the name is being built. Raises ValueError if `keep` is negative.
        """
        if keep < 0:
            raise ValueError(f"keep {keep}: must be 0 or more")
        kept = set(used)
        if not self.directory(name).is_dir():
            return []
        try:
            with self.lock(name):
                kept |= _run_on(self.directory(name) / USED)
                unused = [image for image in self.revisions(name)[keep:] if image.version not in kept]
                return [image.version for image in unused if _remove(image.path)]
        except BlockingIOError:
            return []


def hold(image: Image) -> int:
    """A descriptor: until it is closed, or its process has ended, the version is not removed. Raises ImageError if it was."""
    try:
        fd = os.open(image.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ImageError(_gone(image)) from None
    try:
        # Whoever removes it holds it alone, and has renamed it before it lets go.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if not os.path.samestat(image.path.stat(), os.fstat(fd)):
            raise FileNotFoundError
    except (BlockingIOError, FileNotFoundError):
        os.close(fd)
        raise ImageError(_gone(image)) from None
    return fd


def mark(image: Image, pid: int) -> None:
    """The version stays while this process lives, too: it may outlive whoever holds it. To be called while it is held. Raises
    OSError."""
    used = image.path.parent / USED
    used.mkdir(mode=0o700, exist_ok=True)
    (used / f"{image.version}.{pid}-{process.start_time(pid)}").touch(mode=0o600)


def _run_on(used: Path) -> set[str]:
    """Versions that processes live on; marks of those that have ended go."""
    found = set()
    for each in used.iterdir() if used.is_dir() else ():
        version, _, who = each.name.partition(".")
        pid, _, started = who.partition("-")
        if pid.isdigit() and str(process.start_time(int(pid))) == started:
            found.add(version)
        else:
            each.unlink(missing_ok=True)
    return found


def _gone(image: Image) -> str:
    return f"version {image.version} of image {image.manifest.name} is gone: a newer one is there, or build it again"


def verify(image: Image) -> list[str]:
    """What is no longer as it was built, in words, one path each; empty if nothing. Reads every byte. Raises OSError."""
    built = (image.path / "contents").read_text().splitlines()
    summary = contents.summary(built, image.root)
    if summary.digest != image.manifest.contents:
        return ["contents itself was changed: which path of the image was cannot be told"]
    return contents.differences(built, contents.lines(image.root))


def _read(path: Path) -> Image | None:
    """None: it is being removed this moment."""
    try:
        manifest = Manifest.from_bytes((path / "manifest.json").read_bytes())
    except FileNotFoundError:
        if not path.exists():
            return None
        raise ImageError(
            f"{path} has no manifest.json: it is damaged; remove the directory, then build again"
        ) from None
    except ValueError as error:
        raise ImageError(f"{path}/manifest.json: {error}; remove the directory, then build again") from error
    return Image(path, manifest)


def _remove(path: Path) -> bool:
    """Gone at once for whoever looks, and then piece by piece. False: somebody holds it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        going = path.with_name(REMOVING + path.name)
        path.rename(going)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    shutil.rmtree(going)
    return True


def _remove_leavings(directory: Path) -> None:
    for path in directory.iterdir():
        if path.name.startswith((BUILDING, REMOVING)):
            shutil.rmtree(path)


def is_full(path: Path) -> bool:
    """Of blocks or of inodes."""
    info = os.statvfs(path)
    return info.f_bavail * info.f_frsize < 1 << 20 or (info.f_files > 0 and info.f_favail < 10)
