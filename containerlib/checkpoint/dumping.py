"""Taking an image of a running container that was made to be dumped (see dumpable.py).

    image = await dump(criu, container, facts, directory, leave_running=False)

CRIU leaves its processes stopped, so that their files are read as they were at that moment; then it goes on, or its caller ends it.
One that was halted before (halting.py) goes on with that, too.
"""

import asyncio
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from containerlib.checkpoint import criu as program
from containerlib.checkpoint import images
from containerlib.checkpoint.criu import Criu, CriuFailed
from containerlib.checkpoint.images import Image, Manifest, Moment
from containerlib.checkpoint.restorer import FILES
from containerlib.dialogue import until_executed
from containerlib.handle import Container, StartFailed
from containerlib.plan import LOGS

TIMEOUT_S = 30.0
LOG = "dump.log"
# What is outside of an image: by these keys CRIU names it, and a restore says what to put there.
MOUNTS = (("usr", "/usr"), ("etc", "/etc"), *((Path(each).name, each) for each in LOGS))
# Nothing of the network but listening sockets: a restored container has another address, and its peers are gone.
OPTIONS = (
    "--empty-ns",
    "net",
    "--manage-cgroups=ignore",
    "--network-lock",
    "skip",
    "--tcp-close",
    "--ghost-limit",
    "64M",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """Of the container, for its image. `targets`: of its own mounts."""

    name: str
    moment: Moment
    definition: str
    base: int
    init: bool
    targets: tuple[str, ...] = ()
    source: str = ""


async def dump(
    criu: Criu,
    container: Container,
    facts: Facts,
    directory: Path,
    *,
    leave_running: bool,
    timeout_s: float = TIMEOUT_S,
) -> Image:
    """Raises CriuFailed; the container runs on then. If it is not to run on it is left stopped, to be killed."""
    if container.kind.dumpable is None:
        raise CriuFailed(f"{facts.name} was not started to be dumped: its definition needs c.checkpoint()")
    try:
        await until_executed(container)
    except (StartFailed, TimeoutError) as error:
        resume(container)
        raise CriuFailed(f"{facts.name} was never executed: {error}") from error
    mounts = (*MOUNTS, *((f"own{number}", target) for number, target in enumerate(facts.targets)))
    with images.making(directory) as fresh:
        pids = container.group.processes()
        known = images.libraries(pids)
        done = False
        try:
            await _run_criu(criu, container.pid, mounts, fresh, timeout_s)
            await _archive(container.pid, fresh / FILES, timeout_s)
            manifest = Manifest(
                facts.name, facts.moment, criu.version, images.kernel_release(), facts.definition, facts.base, facts.init,
                mounts, known, time.time(), facts.source,
            )  # fmt: skip
            image = images.keep(fresh, manifest)
            done = True
            return image
        finally:
            if leave_running or not done:
                resume(container)


async def _run_criu(
    criu: Criu, pid: int, mounts: tuple[tuple[str, str], ...], directory: Path, timeout_s: float
) -> None:
    externals = [word for key, target in mounts for word in ("--external", f"mnt[{target}]:{key}")]
    where = ("--tree", str(pid), "--images-dir", str(directory), "--log-file", LOG)
    await program.run(criu, ("dump", *where, "--leave-stopped", *OPTIONS, *externals), directory / LOG, timeout_s)
    (directory / LOG).unlink(missing_ok=True)


async def _archive(pid: int, archive: Path, timeout_s: float) -> None:
    """As root of the host, who follows no link of the container's; sockets are CRIU's."""
    logs = [f"--exclude=.{each}" for each in LOGS]
    process = await asyncio.create_subprocess_exec(
        "tar", "--create", "--file", str(archive), "--directory", f"/proc/{pid}/root", "--one-file-system",
        "--numeric-owner", "--anchored", *logs, ".",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_s):
            _, said = await process.communicate()
    except TimeoutError:
        raise CriuFailed(f"its files could not be read within {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise CriuFailed(f"its files could not be read: {said.decode(errors='replace').strip()}")


def resume(container: Container) -> None:
    """Harmless to what was never stopped."""
    for pid in container.group.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
