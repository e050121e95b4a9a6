"""Lives that begin from an image of their processes, or that one is taken of: what their starts and ends do about it, and what is
told. Which image, and whether it fits, is restored.py's.

    if imaged.wants(life.app) and not await imaged.restore(life):
        await imaged.make(life)             # to be woken like any other blank
    if await imaged.dump(life): ...         # when it is to be stopped: an image was taken instead, it is to be killed
"""

import asyncio
import time

from containerlib.checkpoint.criu import CriuFailed, Unavailable
from containerlib.checkpoint.images import NoImage
from containerlib.handle import Kind, StartFailed
from containerlib.runtime import Runtime
from dispatcher import units
from dispatcher.compute.journal import Journal
from dispatcher.compute.life import Life, Listener
from dispatcher.compute.restored import Keeper
from dispatcher.domain import App


class Imaged:
    def __init__(self, runtime: Runtime, keeper: Keeper, journal: Journal, listener: Listener) -> None:
        self._runtime = runtime
        self._keeper = keeper
        self._journal = journal
        self._listener = listener

    def wants(self, app: App) -> bool:
        return self._keeper.wants(app)

    def forget(self, app: str) -> None:
        self._keeper.forget(app)

    async def restore(self, life: Life) -> bool:
        """False: it has to be started anew."""
        began = time.perf_counter()
        try:
            life.handle = await self._keeper.restore(life.app)
        except (StartFailed, NoImage, Unavailable) as error:
            self._listener.tell(life, "not_restored", f"{error}; it is started anew")
            if not isinstance(error, Unavailable):  # the image may be as good as ever
                self._keeper.forget(life.app.name)
            return False
        if life.handle is None:
            return False
        life.phases["restore"] = (time.perf_counter() - began) * 1000
        self._journal.write(life.record())
        self._listener.tell(life, "restored", f"from its image, in {life.phases['restore']:.0f} ms")
        return True

    async def make(self, life: Life) -> None:
        """A blank for a life that can be dumped. Not of the reserve: whose it will be must be known first."""
        began = time.perf_counter()
        async with asyncio.timeout(life.app.spec.policy.start_timeout_s):
            life.handle = await self._runtime.make_blank(kind=Kind(dumpable=life.app.uid))
        life.phases["queue"] = (time.perf_counter() - began) * 1000
        self._journal.write(life.record())

    async def dump(self, life: Life) -> bool:
        """Instead of asking it to stop: nothing is in flight, and nobody waits. True: it is to be killed."""
        if not await self._keeper.is_to_be_dumped(life):
            return False
        try:
            image = await self._keeper.take(life)
        except (CriuFailed, Unavailable) as error:
            self._listener.tell(life, "not_dumped", str(error))
            return False
        size = units.format_memory(image.manifest.size_bytes)
        self._listener.tell(life, "dumped", f"an image of {size} was taken, to be restored when it is wanted")
        return True
