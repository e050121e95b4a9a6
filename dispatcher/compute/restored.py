"""Apps that begin from an image of their own processes: one is taken when such an app falls asleep for the first time, with nobody
waiting, and restored whenever it is wanted again. What cannot be restored is started anew, and its image thrown away.

    keeper.wants(app)                       # it is such an app
    container = await keeper.restore(app)   # None: there is no image yet
    image = await keeper.take(life)         # of a life that is let go, instead of asking it to stop

To restore runs programs (CRIU, a shell of four lines), which no other start does: it pays for what boots in seconds.
"""

import asyncio
import hashlib
import shutil
from pathlib import Path
from signal import Signals

import msgspec

from containerlib.bind import BindMount
from containerlib.cgroups import Limits
from containerlib.checkpoint import criu, dumping, images, restoring
from containerlib.checkpoint.criu import Criu
from containerlib.checkpoint.dumping import Facts
from containerlib.checkpoint.images import Image, Moment, NoImage
from containerlib.handle import Container
from containerlib.runtime import Runtime
from dispatcher import units
from dispatcher.compute.life import Life
from dispatcher.compute.policies import network_policy
from dispatcher.domain import App, Policy, Start


class Keeper:
    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self._runtime = runtime
        self._directory = directory
        self._criu: Criu | None = None

    def wants(self, app: App) -> bool:
        return app.spec.policy.start is Start.RESTORED and app.uid is not None and self._runtime.maps_users

    def find(self, app: App) -> Image | None:
        """One that may be restored here and now; None: none was taken yet. Raises NoImage and criu.Unavailable."""
        place = self._directory / app.name
        if not images.versions(place):
            return None
        image = images.newest(place)
        assert app.uid is not None
        restoring.check(image, self._program(), definition=_digest(app), base=app.uid)
        return image

    async def restore(self, app: App) -> Container | None:
        """None: there is no image yet. Raises StartFailed, NoImage and criu.Unavailable."""
        image = await asyncio.to_thread(self.find, app)
        if image is None:
            return None
        spec = app.spec
        who = restoring.Who(
            hostname=app.name,
            binds=tuple(BindMount(mount.source, mount.target, mount.readonly) for mount in spec.mounts),
            limits=Limits(units.parse_cpu(spec.policy.boot_cpu), app.memory_bytes, spec.pids),
            policy=network_policy(spec),
            signal=Signals[f"SIG{spec.policy.restore_signal}"] if spec.policy.restore_signal else None,
        )
        return await restoring.restore(self._runtime, self._program(), image, who)

    async def is_to_be_dumped(self, life: Life) -> bool:
        """Of one that is to be stopped. Not where nobody would restore its image: its successor is another, or its time is over. In
        a thread: CRIU is asked its version, and files are looked at."""
        if life.is_leaving or life.draining is None or life.draining.cut_at is not None or not self.wants(life.app):
            return False
        return await asyncio.to_thread(self.is_due, life)

    def is_due(self, life: Life) -> bool:
        """It is to be dumped when it is stopped."""
        if not self.wants(life.app) or life.handle is None or life.handle.kind.dumpable is None:
            return False
        try:
            return self.find(life.app) is None
        except NoImage:
            return True
        except criu.Unavailable:
            return False

    async def take(self, life: Life) -> Image:
        """It is left stopped, to be killed. Raises CriuFailed and criu.Unavailable, and it runs on."""
        app, handle = life.app, life.handle
        assert handle is not None and app.uid is not None
        targets = tuple(mount.target for mount in app.spec.mounts)
        facts = Facts(app.name, Moment.WARMED, _digest(app), app.uid, app.spec.init, targets)
        return await dumping.dump(self._program(), handle, facts, self._directory / app.name, leave_running=False)

    def forget(self, app: str) -> None:
        shutil.rmtree(self._directory / app, ignore_errors=True)

    def _program(self) -> Criu:
        """Looked for once: it does not change under an agent."""
        if self._criu is None:
            self._criu = criu.find()
        return self._criu


def _digest(app: App) -> str:
    """Of what only a new process can take in."""
    spec = msgspec.structs.replace(app.spec, policy=Policy())
    return hashlib.sha256(msgspec.json.encode(spec)).hexdigest()[:16]
