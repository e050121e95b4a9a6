"""A key that stands in the CMDB for as long as its writer lives: under a lease, kept alive, and granted anew when it was lost."""

import asyncio
import contextlib
import logging
import random

from dispatcher.cmdb.store import LeaseLost, Put, Store, Unavailable
from dispatcher.tasks import Tasks

TTL_S = 20  # not less: an election or a slow disk must not cost the key
RETRY_S = 1.0

_log = logging.getLogger(__name__)


class Registration:
    def __init__(self, store: Store, key: str, ttl_s: int = TTL_S) -> None:
        self._store = store
        self._key = key
        self._ttl_s = ttl_s
        self._tasks = Tasks()
        self.lease = 0
        self._value = b""
        self._written: bytes | None = None  # under the present lease
        self._wanted = asyncio.Event()
        self.grants = 0

    def start(self, value: bytes) -> None:
        """Returns at once; the key is put in the background, as soon as the store takes it."""
        self._value = value
        self._tasks.start(self._run(), name=f"registration {self._key}")

    def update(self, value: bytes) -> None:
        self._value = value
        self._wanted.set()

    async def close(self) -> None:
        """Takes the key away, if the store answers; else its lease does."""
        await self._tasks.close()
        if self.lease:
            with contextlib.suppress(Unavailable):
                await self._store.revoke(self.lease)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        refresh_at = 0.0
        while True:
            wait_s = RETRY_S
            try:
                if loop.time() >= refresh_at:
                    await self._hold_lease()
                    refresh_at = loop.time() + self._ttl_s / 3 * random.uniform(0.8, 1.0)
                self._wanted.clear()
                if self._written != (value := self._value):
                    await self._store.commit([], [Put(self._key, value, self.lease)])
                    self._written = value
                wait_s = max(0.0, refresh_at - loop.time())
            except LeaseLost:
                self.lease, refresh_at, wait_s = 0, 0.0, 0.0
            except Unavailable as error:
                _log.debug("%s is not refreshed: %s", self._key, str(error))
                wait_s *= random.uniform(0.5, 1.5)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wanted.wait()

    async def _hold_lease(self) -> None:
        if self.lease and not await self._store.keep_alive(self.lease):
            _log.warning("the lease of %s was lost; registering again", self._key)
            self.lease = 0
        if not self.lease:
            self._written = None
            self.lease = await self._store.grant(self._ttl_s)
            self.grants += 1
