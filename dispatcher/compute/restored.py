"""Apps that begin from an image of their own processes: one is taken once, at the moment that the app names (`image_at`), and
restored whenever it is wanted again. What cannot be restored is started anew, and its image thrown away.

    keeper.can(app)                         # it may be such an app
    image = keeper.find(life)               # None: there is none yet
    container = await keeper.restore(life, image)
    image = await keeper.take(life, leave_running=False)

To restore runs programs (CRIU, a shell of four lines), which no other start does: it pays for what boots in seconds.
"""

import asyncio
import hashlib
import shutil
from pathlib import Path
from signal import Signals

import msgspec

from containerlib import starting
from containerlib.bind import BindMount
from containerlib.cgroups import Limits
from containerlib.checkpoint import criu, dumping, images, restoring
from containerlib.checkpoint.criu import Criu
from containerlib.checkpoint.dumping import Facts
from containerlib.checkpoint.images import Image, Moment, NoImage
from containerlib.checks import SpecError
from containerlib.handle import Container, StartFailed
from containerlib.runtime import Runtime
from containerlib.standalone import applying
from dispatcher import units
from dispatcher.compute.defined import container_spec
from dispatcher.compute.life import Life
from dispatcher.compute.policies import network_policy
from dispatcher.domain import App, ImageAt, Policy, Start

BEGIN = (Start.RESTORED, Start.AUTO)  # from an image
MOMENTS = {ImageAt.LISTEN: Moment.HALTED, ImageAt.READY: Moment.READY, ImageAt.WARMED: Moment.WARMED}


class Keeper:
    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self._runtime = runtime
        self._directory = directory
        self._criu: Criu | None = None

    def can(self, app: App) -> bool:
        """Whether it is to be is decided elsewhere (strategy.py)."""
        return app.spec.policy.start in BEGIN and app.uid is not None and self._runtime.maps_users

    def cannot(self, life: Life) -> list[str]:
        """What of it an image could not hold. Raises StartFailed."""
        try:
            return starting.not_dumpable(container_spec(life.app, life.definition))
        except SpecError as error:
            raise StartFailed(str(error)) from error

    def lacks_criu(self) -> str:
        """What to do about it; empty where there is one."""
        try:
            self._program()
        except criu.Unavailable as error:
            return str(error)
        return ""

    def lacks_image(self, life: Life) -> bool:
        """One is taken of it if it is stopped now, and there is none at all."""
        at_rest = life.app.spec.policy.image_at is ImageAt.WARMED
        return at_rest and self.is_dumpable(life) and not images.versions(self._directory / life.app.name)

    def find(self, life: Life) -> Image | None:
        """One that may be restored here and now; None: none was taken yet. Raises NoImage, criu.Unavailable and StartFailed. It
        reads files, and asks CRIU its version."""
        app = life.app
        place = self._directory / app.name
        if not images.versions(place):
            return None
        image = images.newest(place)
        assert app.uid is not None
        restoring.check(image, self._program(), definition=_digest(life), base=app.uid)
        if image.manifest.moment is not MOMENTS[app.spec.policy.image_at]:
            raise NoImage(
                f"the image of {app.name} is not of the moment that it names now ({app.spec.policy.image_at})"
            )
        return image

    async def restore(self, life: Life, image: Image) -> Container:
        """Raises StartFailed and criu.Unavailable."""
        app, spec = life.app, life.app.spec
        whole = container_spec(app, life.definition)
        assert app.uid is not None
        who = restoring.Who(
            hostname=whole.host_name,
            binds=tuple(BindMount(each.source, each.target, each.readonly) for each in starting.binds(whole)),
            user=starting.identity_of(whole, app.uid, "").user,
            limits=Limits(units.parse_cpu(spec.policy.boot_cpu), app.memory_bytes, spec.pids),
            policy=network_policy(spec),
            signal=Signals[f"SIG{spec.policy.restore_signal}"] if spec.policy.restore_signal else None,
        )
        return await restoring.restore(self._runtime, self._program(), image, who)

    async def is_to_be_dumped(self, life: Life, at: ImageAt) -> bool:
        """Now that it comes to this. Not when it is to be stopped and nobody would restore its image: its successor is another, or
        its time is over. In a thread: CRIU is asked its version, and files are looked at."""
        if life.app.spec.policy.image_at is not at or not self.is_dumpable(life):
            return False
        if at is ImageAt.WARMED and (life.is_leaving or life.draining is None or life.draining.cut_at is not None):
            return False
        return await asyncio.to_thread(self.is_due, life)

    def is_dumpable(self, life: Life) -> bool:
        return self.can(life.app) and life.handle is not None and life.handle.kind.dumpable is not None

    def is_due(self, life: Life) -> bool:
        """There is no image yet that could be restored."""
        if not self.is_dumpable(life):
            return False
        try:
            return self.find(life) is None
        except NoImage:
            return True
        except (criu.Unavailable, StartFailed):
            return False

    async def take(self, life: Life, *, leave_running: bool) -> Image:
        """Else it is left stopped, to be killed. Raises CriuFailed, criu.Unavailable and StartFailed, and it runs on."""
        app, handle = life.app, life.handle
        assert handle is not None and app.uid is not None
        targets = tuple(mount.target for mount in app.spec.mounts)
        facts = Facts(app.name, MOMENTS[app.spec.policy.image_at], _digest(life), app.uid, app.spec.init, targets)
        place = self._directory / app.name
        return await dumping.dump(self._program(), handle, facts, place, leave_running=leave_running)

    def forget(self, app: str) -> None:
        shutil.rmtree(self._directory / app, ignore_errors=True)

    def _program(self) -> Criu:
        """Looked for once: it does not change under an agent."""
        if self._criu is None:
            self._criu = criu.find()
        return self._criu


def _digest(life: Life) -> str:
    """Of what only a new process can take in. Raises StartFailed."""
    own, definition = msgspec.structs.replace(life.app.spec, policy=Policy()), ""
    if life.definition:
        filter = applying.own_filter(life.definition.security.seccomp)
        definition = images.digest(life.definition, filter)
    return hashlib.sha256(msgspec.json.encode(own) + definition.encode()).hexdigest()[:16]
