"""What it costs to start a site on an image, by phase as its agent sees it, beside the same site on the host's own /usr."""

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from msgspec import structs

from bench.coldstart.installation import APP, Installation, installed
from bench.coldstart.ours import EXEC, FIRST_BYTE, Asker, Ours
from bench.results import Report, Result, machine, measured
from containerlib import images
from containerlib.bootstrap.directory import Directory
from dispatcher.cmdb.client import EtcdStore
from dispatcher.coreapi import service
from dispatcher.domain import AppSpec

PAGE = b"<!doctype html><title>bench</title><p>On an image.\n"
ROUNDS, ROUNDS_QUICK = 100, 20
PHASES = (EXEC, FIRST_BYTE, "gate", "image", "mounts", "exec", "listen")


def run(quick: bool) -> Report:
    rounds = ROUNDS_QUICK if quick else ROUNDS
    results: list[Result] = []
    with installed(PAGE) as (installation, _), closing(Asker(installation.settings.agent_socket)) as agent:
        ours = Ours(agent, installation.proxy_address, PAGE)
        results += _rounds("usr", ours, installation, rounds)
        _build(installation)
        asyncio.run(_edit(installation, lambda spec: structs.replace(spec, image="bench")))
        results += _rounds("image", ours, installation, rounds)
        installation.settle()
    return Report("imagestart", machine(), results)


def _rounds(root: str, ours: Ours, installation: Installation, rounds: int) -> list[Result]:
    """The first one looks at the image, and is not counted."""
    phases: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        installation.settle()
        sample = ours.launch()
        for phase in PHASES if number else ():
            if phase in sample:
                phases[phase].append(sample[phase])
    return [measured(f"{root}: {phase}", "ms", each) for phase, each in phases.items()]


def _build(installation: Installation) -> None:
    """As little as the site needs: what an image holds is not read when it is mounted."""
    tree = installation.site.parent / "tree"
    for name in ("usr/bin", "etc"):
        (tree / name).mkdir(parents=True)
    tree.chmod(0o755)
    shutil.copy("/usr/bin/busybox", tree / "usr/bin/busybox")
    images.build(images.Store(Path(installation.settings.image_dir)), "bench", Directory(tree))


async def _edit(installation: Installation, change: Callable[[AppSpec], AppSpec]) -> None:
    store = EtcdStore(installation.settings)
    await service.edit_app(store, APP, change=change)
    await store.close()
