"""Images of a container that somebody runs by itself: where they are, what is taken, what a restore is to make of one."""

from contextlib import AsyncExitStack
from pathlib import Path

from containerlib import starting
from containerlib.bind import BindMount
from containerlib.checkpoint import criu, dumping, halting, images, restoring
from containerlib.checkpoint.criu import Criu
from containerlib.checkpoint.halting import Halting
from containerlib.checkpoint.images import Image, Moment, NoImage
from containerlib.checks import SpecError
from containerlib.handle import Container, StartFailed
from containerlib.runtime import Runtime
from containerlib.spec import ContainerSpec
from containerlib.standalone import applying
from containerlib.standalone.places import Record, Settings


def directory(settings: Settings, name: str) -> Path:
    return settings.state_dir / "checkpoints" / name


async def take(
    settings: Settings,
    spec: ContainerSpec,
    record: Record,
    container: Container,
    moment: Moment,
    *,
    leave_running: bool,
) -> Image:
    """Raises criu.Unavailable and CriuFailed."""
    facts = dumping.Facts(
        name=spec.name,
        moment=moment,
        definition=definition(spec),
        base=record.id_base,
        init=spec.init,
        targets=tuple(each.target for each in starting.binds(spec)),
        source=record.source,
    )
    place = directory(settings, spec.name)
    return await dumping.dump(criu.find(), container, facts, place, leave_running=leave_running)


def definition(spec: ContainerSpec) -> str:
    """Raises StartFailed for a file that it names and that cannot be read."""
    return images.digest(spec, applying.own_filter(spec.security.seccomp))


def choose(spec: ContainerSpec, record: Record, image: Path) -> tuple[Criu, Image]:
    """`image`: of one version, or of all of a container's. Raises NoImage and criu.Unavailable."""
    found = images.read(image) if (image / images.MANIFEST).exists() else images.newest(image)
    if found.manifest.name != spec.name:
        raise NoImage(f"{image} is an image of {found.manifest.name}, not of {spec.name}")
    program = criu.find()
    restoring.check(found, program, definition=definition(spec), base=record.id_base)
    return program, found


def lacks_image(settings: Settings, spec: ContainerSpec, record: Record) -> bool:
    """It has none that could be restored, and one is to be taken while it starts. Raises criu.Unavailable."""
    if spec.checkpoint is None or not spec.checkpoint.before:
        return False
    try:
        choose(spec, record, directory(settings, spec.name))
    except NoImage:
        return True
    return False


async def follow(spec: ContainerSpec, container: Container, following: AsyncExitStack) -> Halting:
    """Up to the call that it names. Raises NotHalted, and StartFailed for a call that this machine does not have."""
    assert spec.checkpoint is not None
    try:
        return await following.enter_async_context(halting.following(container.pid, spec.checkpoint.before))
    except SpecError as error:
        raise StartFailed(str(error)) from error


async def restore(runtime: Runtime, spec: ContainerSpec, record: Record, chosen: tuple[Criu, Image]) -> Container:
    """Raises StartFailed."""
    identity = starting.identity_of(spec, record.id_base, "")
    who = restoring.Who(
        hostname=spec.host_name,
        binds=tuple(BindMount(each.source, each.target, each.readonly) for each in starting.binds(spec)),
        limits=starting.limits_of(spec),
        user=identity.user,
        policy=starting.policy_of(spec),
        signal=spec.checkpoint.signal if spec.checkpoint else None,
    )
    return await restoring.restore(runtime, *chosen, who, record.slot)
