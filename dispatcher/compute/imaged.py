"""Lives that begin from an image of their processes, or that one is taken of: what their starts and ends do about it, and what is
told. Which image, and whether it fits, is restored.py's.

    if await imaged.wants(life) and not await imaged.restore(life):
        await imaged.make(life)
        async with imaged.halting(life) as take:
            ...                             # it is woken like any other blank
            await take()                    # before it listens
    await imaged.when_ready(life)
    if await imaged.instead_of_stopping(life): ...      # it is to be killed

At one of the three an image is taken, where there is none yet.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from containerlib.checkpoint import dumping, halting
from containerlib.checkpoint.criu import CriuFailed, Unavailable
from containerlib.checkpoint.halting import Halting, NotHalted
from containerlib.checkpoint.images import NoImage
from containerlib.handle import Container, Kind, StartFailed
from containerlib.runtime import Runtime
from containerlib.standalone import applying
from dispatcher import units
from dispatcher.compute.defined import container_spec
from dispatcher.compute.journal import Journal
from dispatcher.compute.life import Life, Listener
from dispatcher.compute.restored import Keeper
from dispatcher.domain import ImageAt, Start

LAUNCHER_EVERY_S = 0.02


class Imaged:
    def __init__(self, runtime: Runtime, keeper: Keeper, journal: Journal, listener: Listener) -> None:
        self._runtime = runtime
        self._keeper = keeper
        self._journal = journal
        self._listener = listener

    def check(self, life: Life) -> None:
        """Raises StartFailed for one that asks for what cannot be."""
        if life.app.spec.policy.start is Start.RESTORED and (cannot := self._keeper.cannot(life)):
            raise StartFailed(f"policy.start 'restored' is not possible together with {', '.join(cannot)}; 'frozen' is")

    async def wants(self, life: Life) -> bool:
        """Where the choice is ours, CRIU must be there: nobody is to start slower in vain. Raises StartFailed."""
        if life.begins.start is not Start.RESTORED or not self._keeper.can(life.app):
            return False
        if life.app.spec.policy.start is Start.AUTO and (why := await asyncio.to_thread(self._keeper.lacks_criu)):
            self._listener.not_imaged(life, "not_restored", why)
            return False
        if self._keeper.cannot(life):
            return False
        await self._await_launcher(life)
        return True

    async def _await_launcher(self, life: Life) -> None:
        """As whoever takes a blank from the reserve waits for one. Raises StartFailed."""
        timeout_s = life.app.spec.policy.start_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                while not self._runtime.has_launcher:  # noqa: ASYNC110 - it comes within milliseconds, or not at all
                    await asyncio.sleep(LAUNCHER_EVERY_S)
        except TimeoutError:
            raise StartFailed(f"there was no launcher within {timeout_s:g} s") from None

    def lacks_image(self, life: Life) -> bool:
        return self._keeper.lacks_image(life)

    def forget(self, app: str) -> None:
        self._keeper.forget(app)

    async def restore(self, life: Life, before: Callable[[], Awaitable[None]]) -> bool:
        """False: it has to be started anew. `before` is awaited where there is an image. Raises StartFailed."""
        began = time.perf_counter()
        try:
            image = await asyncio.to_thread(self._keeper.find, life)
        except (NoImage, Unavailable) as error:
            self._not_restored(life, error)
            return False
        if image is None:
            return False
        await before()
        try:
            life.handle = await self._keeper.restore(life, image)
        except (StartFailed, Unavailable) as error:
            self._not_restored(life, error)
            return False
        life.phases["restore"] = (time.perf_counter() - began) * 1000
        self._journal.write(life.record())
        if life.definition:
            applying.write_settings(life.handle.group, container_spec(life.app, life.definition))
        why = f"; {life.begins.why}" if life.begins.why else ""
        self._listener.tell(life, "restored", f"from its image, in {life.phases['restore']:.0f} ms{why}")
        return True

    def _not_restored(self, life: Life, error: Exception) -> None:
        self._listener.not_imaged(life, "not_restored", f"{error}; it is started anew")
        if not isinstance(error, Unavailable):  # the image may be as good as ever
            self._keeper.forget(life.app.name)

    async def make(self, life: Life) -> None:
        """A blank for a life that can be dumped. Not of the reserve: whose it will be must be known first."""
        began = time.perf_counter()
        async with asyncio.timeout(life.app.spec.policy.start_timeout_s):
            own = applying.own_filter(life.definition.security.seccomp) if life.definition else None
            life.handle = await self._runtime.make_blank(filter=own, kind=Kind(dumpable=life.app.uid))
        life.phases["queue"] = (time.perf_counter() - began) * 1000
        self._journal.write(life.record())

    @asynccontextmanager
    async def halting(self, life: Life) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """What to await once it was executed; nothing, where its image is not to be taken before it listens. It may listen before
        that is awaited, but not before the block is entered."""
        async with AsyncExitStack() as following:
            halting = await self._follow(life, following)

            async def take() -> None:
                if halting is not None:
                    await self._take_halted(life, halting)

            yield take

    async def _follow(self, life: Life, following: AsyncExitStack) -> Halting | None:
        if not await self._keeper.is_to_be_dumped(life, ImageAt.LISTEN):
            return None
        assert life.handle is not None
        try:
            return await following.enter_async_context(halting.following(life.handle.pid, halting.LISTEN))
        except NotHalted as error:
            self._listener.not_imaged(life, "not_dumped", str(error))
            return None

    async def _take_halted(self, life: Life, halting: Halting) -> None:
        """Raises StartFailed when it takes too long until it would listen."""
        assert life.handle is not None
        began, timeout_s = time.perf_counter(), life.app.spec.policy.start_timeout_s
        try:
            async with asyncio.timeout(timeout_s - (time.time() - life.started)):
                await halting.halted()
        except NotHalted as error:  # whether that fails the start shows next
            self._listener.not_imaged(life, "not_dumped", str(error))
        except TimeoutError:
            raise StartFailed(f"it did not come to listen() within {timeout_s:g} s") from None
        else:
            life.phases["boot"] = (time.perf_counter() - began) * 1000
            await self._take(life, leave_running=True)
        finally:
            dumping.resume(life.handle)

    async def when_ready(self, life: Life) -> None:
        if await self._keeper.is_to_be_dumped(life, ImageAt.READY):
            await self._take(life, leave_running=True)

    async def instead_of_stopping(self, life: Life) -> bool:
        """Nothing is in flight, and nobody waits. True: an image was taken, and it is to be killed."""
        return await self._keeper.is_to_be_dumped(life, ImageAt.WARMED) and await self._take(life, leave_running=False)

    async def _take(self, life: Life, *, leave_running: bool) -> bool:
        began = time.perf_counter()
        try:
            image = await self._keeper.take(life, leave_running=leave_running)
        except (CriuFailed, Unavailable, StartFailed) as error:
            self._listener.not_imaged(life, "not_dumped", str(error))
            return False
        finally:
            life.phases["dump"] = (time.perf_counter() - began) * 1000
        size = units.format_memory(image.manifest.size_bytes)
        self._listener.tell(life, "dumped", f"an image of {size} was taken, to be restored when it is wanted")
        return True

    @staticmethod
    def go_on(handle: Container) -> None:
        """Of one that a former agent was taking an image of, or not: that stops it."""
        dumping.resume(handle)
