"""Blanks in reserve, so that nobody waits for a namespace, a link or a cgroup.

The reserve is the floor, or as many as were taken in the last minute if that is more (up to CEILING): what woke together
yesterday's burst finds its blanks ready for the next.
"""

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress

from containerlib import process
from containerlib.handle import Container, StartFailed
from containerlib.runtime import Runtime
from dispatcher.tasks import Tasks

CEILING = 32
AT_ONCE = 4  # made at a time: two thirds of it is waiting for the kernel
DEMAND_WINDOW_S = 60.0
RETRY_S = 0.2
REST_S = 0.1
_log = logging.getLogger(__name__)


class Pool:
    def __init__(self, runtime: Runtime, floor: int, tasks: Tasks) -> None:
        self._runtime = runtime
        self._floor = floor
        self._ready: deque[Container] = deque()
        self._waiting: deque[asyncio.Future[Container]] = deque()
        self._taken: deque[float] = deque()
        self._short = asyncio.Event()
        self._urgent = asyncio.Event()
        self._tasks = tasks
        self._room = asyncio.Semaphore(AT_ONCE)
        self._making = 0
        self.made = 0
        self.complaint = ""  # why the last one could not be made; empty if it could

    @property
    def ready(self) -> int:
        return len(self._ready)

    def start(self) -> None:
        self._short.set()
        self._tasks.start(self._refill(), name="blanks")

    def target(self, now: float) -> int:
        while self._taken and self._taken[0] < now - DEMAND_WINDOW_S:
            self._taken.popleft()
        return max(self._floor, min(CEILING, len(self._taken)))

    async def take(self) -> Container:
        self._taken.append(time.monotonic())
        self._short.set()
        while self._ready:
            blank = self._ready.popleft()
            if not process.has_ended(blank.pidfd):
                return blank
            await self._runtime.destroy(blank)
        future: asyncio.Future[Container] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._urgent.set()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._ready.append(future.result())
            raise

    async def discard_stale(self, etc_image: str) -> None:
        """Blanks that carry an older /etc."""
        stale = [blank for blank in self._ready if blank.etc_image != etc_image]
        for blank in stale:
            self._ready.remove(blank)
            await self._runtime.destroy(blank)
        if stale:
            self._short.set()

    async def shrink(self, now: float) -> None:
        """To what recent demand asks for."""
        while len(self._ready) > self.target(now):
            await self._runtime.destroy(self._ready.popleft())

    async def close(self) -> None:
        while self._ready:
            await self._runtime.destroy(self._ready.popleft())

    async def _refill(self) -> None:
        while True:
            await self._short.wait()
            self._short.clear()
            await self._let_starts_pass()
            while self._is_short(time.monotonic()):
                await self._room.acquire()
                self._making += 1
                self._tasks.start(self._make(), name="blank")

    def _is_short(self, now: float) -> bool:
        waiting = sum(not future.done() for future in self._waiting)  # one may have given up
        wanted = waiting + max(0, self.target(now) - len(self._ready))
        return self._making < wanted

    async def _make(self) -> None:
        try:
            blank = await self._runtime.make_blank()
        except Exception as error:  # noqa: BLE001 - the border of a task without which nothing ever starts again
            self._complain(error)
            await asyncio.sleep(RETRY_S)
            self._short.set()
            return
        finally:
            self._making -= 1
            self._room.release()
        self.made += 1
        self.complaint = ""
        self._hand_over(blank)
        self._short.set()  # who took one while it was made may not have been counted
        await self.discard_stale(blank.etc_image)

    def _complain(self, error: Exception) -> None:
        """Once for each reason, however often it is met."""
        complaint = str(error) or type(error).__name__
        if complaint != self.complaint:
            expected = isinstance(error, OSError | StartFailed | TimeoutError)
            _log.warning("no blank can be made: %s", complaint, exc_info=None if expected else error)
        self.complaint = complaint

    async def _let_starts_pass(self) -> None:
        """Making a blank keeps a processor and this interpreter busy for some 10 ms, in which the start that took one would take
        a third longer. While there are others it can wait."""
        self._urgent.clear()
        if self._ready:
            with suppress(TimeoutError):
                async with asyncio.timeout(REST_S):
                    await self._urgent.wait()

    def _hand_over(self, blank: Container) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(blank)
                return
        self._ready.append(blank)
