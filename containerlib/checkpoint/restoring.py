"""Making a container of an image: a new one, with an address, a host name, control groups and logs of its own.

    container = await restore(runtime, criu, image, who, slot=None)

CRIU is a program, and runs here while somebody may be waiting: that is the price of this way to start, and it is paid by those who
chose it alone.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals, pidfd_send_signal

from containerlib import idmap
from containerlib.bind import BindMount, open_mount
from containerlib.cgroups import Limits
from containerlib.checkpoint import images
from containerlib.checkpoint.criu import Criu
from containerlib.checkpoint.dumping import OPTIONS, resume
from containerlib.checkpoint.images import Host, Image, Moment, NoImage
from containerlib.checkpoint.restorer import Work
from containerlib.firewall import USUAL, NetworkPolicy
from containerlib.handle import Container, Kind, StartFailed
from containerlib.identity import Identity
from containerlib.plan import LOGS, app_files, generated_names
from containerlib.runtime import Runtime

TIMEOUT_S = 5.0
READ_BPS = 50e6  # at worst, of an image: a larger one has more time


@dataclass(frozen=True, slots=True)
class Who:
    """What it is to be, beside what the image says. `binds`: of its definition, in their order. `user`: its number inside.
    `signal`: tells its program that it was restored; one that was halted gets it before its next instruction."""

    hostname: str
    binds: tuple[BindMount, ...]
    limits: Limits
    user: int = idmap.APP_USER
    policy: NetworkPolicy = USUAL
    signal: Signals | None = None


def check(image: Image, criu: Criu, *, definition: str, base: int) -> None:
    """Raises NoImage for one that may not be restored here and now."""
    manifest = image.manifest
    host = Host(criu.version, images.kernel_release(), images.changed(manifest.libraries))
    if reason := images.why_not(manifest, host, definition=definition, base=base):
        raise NoImage(f"the image of {manifest.name} cannot be restored: {reason}")


async def restore(runtime: Runtime, criu: Criu, image: Image, who: Who, slot: int | None = None) -> Container:
    """Raises StartFailed, with what CRIU says of it; nothing is left then. It runs when this returns, as `Runtime.wake` would have
    left it."""
    etc = str(await runtime.etc_image())
    tell = _tell(criu, image, who, etc)
    timeout_s = TIMEOUT_S + image.manifest.size_bytes / READ_BPS
    try:
        async with asyncio.timeout(timeout_s):
            return await _restore(runtime, image, who, slot, tell)
    except TimeoutError:
        raise StartFailed(f"its image was not restored within {timeout_s:.1f} s") from None


async def _restore(
    runtime: Runtime, image: Image, who: Who, slot: int | None, tell: Callable[[socket.socket, Path, str], None]
) -> Container:
    container = await runtime.make_blank(slot, kind=Kind(restores=tell))
    try:
        await runtime.let_go(container, who.limits, who.policy, init=image.manifest.init)
    except BaseException:
        await runtime.destroy(container)
        raise
    if who.signal is not None:
        with suppress(ProcessLookupError):  # it has ended, which shows
            pidfd_send_signal(container.program.pidfd if container.program else container.pidfd, who.signal)
    if image.manifest.moment is Moment.HALTED:
        resume(container)
    return container


def _tell(criu: Criu, image: Image, who: Who, etc: str) -> Callable[[socket.socket, Path, str], None]:
    """`directory`: of its log's FIFOs."""

    def tell(control: socket.socket, directory: Path, address: str) -> None:
        manifest = image.manifest
        identity = Identity(who.hostname, manifest.base, ("restored",), address=address)
        owner = idmap.outside(manifest.base, who.user)
        logs = [directory / Path(each).name for each in LOGS]
        for path in logs:
            os.chown(path, owner, owner)
        binds = (
            BindMount("/usr", "/usr", True),
            BindMount(etc, "/etc", True),
            *(BindMount(str(path), target, False) for path, target in zip(logs, LOGS, strict=True)),
            *who.binds,
        )
        if [each.target for each in binds] != [target for _, target in manifest.mounts]:
            raise StartFailed("the image was taken with other mounts")
        files = app_files(identity)
        work = Work(
            criu=criu.command,
            options=OPTIONS,
            image=str(image.directory),
            mounts=manifest.mounts,
            hostname=who.hostname,
            files={name: files[name] for name in generated_names(mapped=True)},
        )
        fds: list[int] = []
        try:
            fds.extend(open_mount(bind) for bind in binds)
            control.send(work.to_bytes())
            socket.send_fds(control, [b"mounts"], fds)
        finally:
            for fd in fds:
                os.close(fd)

    return tell
