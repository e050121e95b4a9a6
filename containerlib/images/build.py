"""Builds a version of an image: a strategy makes the root, steps provision it, then it is put in place, once.

What the process dies of does not matter: until the last rename the version is not there, and what was begun goes with the next
build (store.py). Programs that were started die with the build (cell.py).
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from containerlib import kernel
from containerlib.bounds import usual_here
from containerlib.cgroups import Limits
from containerlib.images import contents, recipe
from containerlib.images.bench import Bench
from containerlib.images.fields import require_time
from containerlib.images.manifest import Config, Manifest
from containerlib.images.progress import Built, Found, Progress, StepBegan, Waiting, silent
from containerlib.images.store import BUILDING, Image, ImageError, Store, is_full


class Bootstrap(Protocol):
    """A way to make a root. `recipe` raises OSError or ProgramError if what it names is not there."""

    def recipe(self) -> str: ...

    def build(self, root: Path, bench: Bench) -> Config | None:
        """Fills the empty directory `root`, which is root's with mode 755. Whatever it raises ends the build."""


class Step(Protocol):
    """What is done to a root afterwards, under a name."""

    @property
    def name(self) -> str: ...

    def recipe(self) -> str: ...

    def apply(self, root: Path, bench: Bench) -> None: ...


@dataclass(frozen=True, slots=True)
class FromImage:
    """Bootstrap from a version of an image, for steps that are to be done on top of it."""

    image: Image
    timeout_s: float = 1800

    def __post_init__(self) -> None:
        require_time(self)

    def recipe(self) -> str:
        return recipe.combined([type(self).__name__, self.image.manifest.contents])

    def build(self, root: Path, bench: Bench) -> Config:
        bench.run("cp", "-a", "--reflink=auto", f"{self.image.root}/.", root, timeout_s=self.timeout_s)
        return self.image.manifest.config


@dataclass(frozen=True, slots=True)
class _Job:
    store: Store
    name: str
    bootstrap: Bootstrap
    steps: tuple[Step, ...]
    recipe: str
    lock: int
    limits: Limits
    progress: Progress


def build(
    store: Store,
    name: str,
    bootstrap: Bootstrap,
    steps: Sequence[Step] = (),
    *,
    again: bool = False,
    limits: Limits | None = None,
    progress: Progress = silent,
    clock: Callable[[], float] = time.time,
) -> Image:
    """The version of this recipe, built unless it is there already. `again`: built anyway, for what a recipe cannot see (a
    distribution's newer packages). `limits`: of each program that the build starts, with all that it starts; half of this host
    unless given (bounds.py). What a bootstrap's own function does in this process they do not count.

    If another process builds the same name it waits, however long that takes, and uses the result if the recipe is the same.
    Raises ValueError for a bad name or two steps of one name, ImageError for everything else, with the failed step, its
    program's last words and what to do. Call it as root, and from a worker thread: it blocks.
    """
    _check_names(steps)
    store.directory(name)  # a bad name is no failure of a build
    if os.geteuid() != 0:
        raise ImageError(f"image {name}: only root can build images, with files of all owners and mounts of their own")
    with _told(name, "recipe"):
        wanted = recipe.combined([bootstrap.recipe(), *(step.recipe() for step in steps)])

    def on_wait(holder: str) -> None:
        progress(Waiting(name, holder))

    with _told(name, "start", store.path), store.lock(name, on_wait) as lock:
        found = None if again else store.find(name, wanted)
        if found is not None:
            progress(Found(name, found.version))
            return found
        job = _Job(store, name, bootstrap, tuple(steps), wanted, lock, limits or usual_here(), progress)
        with _workplace(store.directory(name)) as work:
            config = _make_root(job, work)
            with _told(name, "finish", work):
                image = _finish(job, work, config, clock())
    progress(Built(name, image.version, image.manifest.size_bytes))
    return image


def provision(
    store: Store,
    name: str,
    steps: Sequence[Step],
    only: Sequence[str] = (),
    *,
    limits: Limits | None = None,
    progress: Progress = silent,
    clock: Callable[[], float] = time.time,
) -> Image:
    """A new version: the newest one and on top of it the steps, or those named in `only`, in the steps' order.

    Steps that were applied to the same contents before are not applied again. Raises as `build` does, and ImageError if the
    image was never built; ValueError for a name in `only` that no step has.
    """
    _check_names(steps)
    unknown = sorted(set(only) - {step.name for step in steps})
    if unknown:
        known = ", ".join(step.name for step in steps) or "none"
        raise ValueError(f"no step is named {', '.join(map(repr, unknown))}; there are: {known}")
    base = store.newest(name)
    if base is None:
        raise ImageError(f"image {name} was never built: build it first, then provision it")
    chosen = [step for step in steps if not only or step.name in only]
    return build(store, name, FromImage(base), chosen, limits=limits, progress=progress, clock=clock)


def _check_names(steps: Sequence[Step]) -> None:
    names = [step.name for step in steps]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"steps {', '.join(map(repr, twice))}: a step's name must be its own")


@contextlib.contextmanager
def _workplace(directory: Path) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix=BUILDING, dir=directory))
    try:
        yield work
    finally:
        # What cannot be removed now is removed by the next build; how this one failed matters more.
        shutil.rmtree(work, ignore_errors=True)


def _make_root(job: _Job, work: Path) -> Config:
    root = work / "root"
    root.mkdir()
    root.chmod(0o755)
    count = len(job.steps) + 1
    with _step(job, "bootstrap", work, 1, count) as bench:
        config = job.bootstrap.build(root, bench)
    for number, step in enumerate(job.steps, 2):
        with _step(job, step.name, work, number, count) as bench:
            step.apply(root, bench)
    # An archive made of a temporary directory says 700, and nobody but root could enter the container's root.
    os.chown(root, 0, 0)
    root.chmod(0o755)
    return config or Config()


@contextlib.contextmanager
def _step(job: _Job, step: str, work: Path, number: int, count: int) -> Iterator[Bench]:
    job.progress(StepBegan(job.name, step, number, count))
    with _told(job.name, step, work):
        scratch = work / "scratch"
        scratch.mkdir()
        yield Bench(job.name, step, scratch, job.progress, (job.lock,), job.limits)
        shutil.rmtree(scratch)


@contextlib.contextmanager
def _told(name: str, step: str, place: Path | None = None) -> Iterator[None]:
    """The border to a definition's own code: whatever it raises is told with the step, and with a full disk if there is one."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        remedy = ""
        if place is not None and place.exists() and is_full(place):
            remedy = f"\nthe file system of {place} is full: make room (remove_unused), then build again"
        raise ImageError(f"image {name}: {step} failed: {str(error) or type(error).__name__}{remedy}") from error


def _finish(job: _Job, work: Path, config: Config, now: float) -> Image:
    listing = list(contents.lines(work / "root"))
    (work / "contents").write_text("".join(f"{line}\n" for line in listing))
    kernel.syncfs(str(work))
    summary = contents.summary(listing, work / "root")
    version, built = job.store.new_version(job.name, job.recipe, now)
    manifest = Manifest(
        name=job.name,
        version=version,
        recipe=job.recipe,
        contents=summary.digest,
        built=built,
        size_bytes=summary.size_bytes,
        files=summary.files,
        bootstrap=type(job.bootstrap).__name__,
        steps=tuple(step.name for step in job.steps),
        config=config,
    )
    _write_synced(work / "manifest.json", manifest.to_bytes())
    path = job.store.directory(job.name) / version
    work.rename(path)
    _sync(path.parent)
    return Image(path, manifest)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
