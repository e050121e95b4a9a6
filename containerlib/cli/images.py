"""container create | provision | revisions | archive | prune: the images that definitions run on."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containerlib.cli.failure import INVALID, UNKNOWN, Failure
from containerlib.cli.files import Files, Names, read, selected
from containerlib.cli.output import Json, print_json, print_table, say
from containerlib.spec import ContainerSpec, Image
from containerlib.units import format_memory, parse_cpu, parse_memory

if TYPE_CHECKING:
    from containerlib.cgroups import Limits
    from containerlib.images import Store
    from containerlib.images.progress import Event

COLUMNS = ("IMAGE", "VERSION", "BUILT", "SIZE", "FROM", "STEPS")


def add_to(root: typer.Typer) -> None:
    for verb in (create, provision, revisions, archive, prune):
        root.command()(verb)


Cpu = Annotated[str, typer.Option("--cpu", help="For each program that it starts, such as 200%; half of this host.")]
Memory = Annotated[str, typer.Option("--memory", help="The same, such as 4G; half of this host's.")]
Pids = Annotated[int | None, typer.Option("--pids", min=2, help="Processes of each program that it starts; 1024.")]


def create(
    files: Files,
    names: Names = None,
    cpu: Cpu = "",
    memory: Memory = "",
    pids: Pids = None,
    again: Annotated[bool, typer.Option("--again", help="Even if this recipe was built before.")] = False,
    no_provision: Annotated[bool, typer.Option("--no-provision", "-N", help="Without the steps.")] = False,
) -> None:
    """Build the images of definitions, as far as they are not there yet."""
    from containerlib import images

    with _told():
        for image in _images(files, names):
            if image.bootstrap is None:
                raise Failure(f"image {image.name}: its definition does not say how it is built", code=INVALID)
            bootstrap: Any = image.bootstrap
            steps: Any = () if no_provision else image.steps
            limits = _limits(cpu, memory, pids)
            images.build(_store(), image.name, bootstrap, steps, again=again, limits=limits, progress=_show)


def provision(
    files: Files,
    names: Names = None,
    cpu: Cpu = "",
    memory: Memory = "",
    pids: Pids = None,
    only: Annotated[list[str] | None, typer.Option("--only", "-r", help="Only this step; may be repeated.")] = None,
) -> None:
    """A new version of each image: the newest one, and on top of it the steps of its definition."""
    from containerlib import images

    with _told():
        for image in _images(files, names):
            steps: Any = image.steps
            limits = _limits(cpu, memory, pids)
            images.provision(_store(), image.name, steps, only or (), limits=limits, progress=_show)


def revisions(files: Files, names: Names = None, json: Json = False) -> None:
    """The versions of definitions' images that are there, the newest first."""
    with _told():
        found = [each for image in _images(files, names) for each in reversed(_store().revisions(image.name))]
    manifests = sorted((each.manifest for each in found), key=lambda each: (each.name, each.version), reverse=True)
    if json:
        print_json(manifests)
        return
    rows = (
        (
            each.name,
            each.version,
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.built)),
            format_memory(each.size_bytes),
            each.bootstrap,
            " ".join(each.steps),
        )
        for each in manifests
    )
    print_table(COLUMNS, rows)


def archive(
    file: Annotated[Path, typer.Argument(help="A definition file.", show_default=False)],
    target: Annotated[
        Path, typer.Argument(help="To be written: .tar, .tar.gz, .tar.bz2 or .tar.xz.", show_default=False)
    ],
    names: Names = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell each member.")] = False,
) -> None:
    """The newest version of a definition's image, as one file."""
    from containerlib import images

    with _told():
        found = _images([file], names)
        if len(found) != 1:
            raise Failure("one image at a time", hint="choose a definition with --name", code=INVALID)
        newest = _store().newest(found[0].name)
        if newest is None:
            raise Failure(f"image {found[0].name} has not been built", hint="container create", code=UNKNOWN)
        size = images.archive(newest, target, dry_run=dry_run, on_member=say if verbose else lambda _line: None)
    say(f"{newest.manifest.name} {newest.version}: {'nothing written' if dry_run else f'{size} bytes in {target}'}")


def prune(
    names: Annotated[list[str] | None, typer.Argument(help="Images; all there are unless named.")] = None,
    keep: Annotated[int, typer.Option("--keep", min=1, help="So many of the newest versions stay.")] = 1,
) -> None:
    """Remove versions of images that no container runs on, all but the newest."""
    with _told():
        store = _store()
        known = store.names()
        for name in names or known:
            if name not in known:
                raise Failure(
                    f"there is no image {name!r}", hint=f"there is: {', '.join(known) or 'none'}", code=UNKNOWN
                )
            for version in store.remove_unused(name, keep=keep):
                say(f"{name}: removed {version}")


def _limits(cpu: str, memory: str, pids: int | None) -> "Limits":
    from containerlib.bounds import usual_here

    usual = usual_here()
    try:
        return replace(
            usual,
            cpu=parse_cpu(cpu) if cpu else usual.cpu,
            memory_bytes=parse_memory(memory) if memory else usual.memory_bytes,
            pids=pids or usual.pids,
        )
    except ValueError as error:
        raise Failure(str(error), code=INVALID) from error


def _images(files: Sequence[Path], names: Sequence[str] | None) -> list[Image]:
    """Each once: several definitions may share one."""
    specs = selected(read(*files), names)
    found = {image.name: image for spec in specs if (image := _image(spec)) is not None}
    if not found:
        raise Failure("none of them runs on an image", hint='c.bootstrap.image("name", ...)', code=INVALID)
    return list(found.values())


def _image(spec: ContainerSpec) -> Image | None:
    return spec.root if isinstance(spec.root, Image) else None


def _store() -> "Store":
    from containerlib.images import Store
    from containerlib.standalone.places import Settings

    return Store(Settings.of(os.environ).roots)


@contextmanager
def _told() -> Iterator[None]:
    from containerlib.images import ImageError

    try:
        yield
    except (ImageError, ValueError) as error:
        raise Failure(str(error)) from error


def _show(event: "Event") -> None:
    from containerlib.images.progress import Built, Found, Line, StepBegan, Waiting

    match event:
        case Waiting():
            say(f"{event.image}: waits for {event.holder}, who builds it")
        case StepBegan():
            say(f"{event.image}: {event.step} ({event.number} of {event.count})")
        case Line():
            say(f"{event.image}: {event.step}: {event.text}")
        case Built():
            say(f"{event.image}: built {event.version}, {event.size_bytes} bytes")
        case Found():
            say(f"{event.image}: {event.version} is there")
