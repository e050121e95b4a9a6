"""What only UserLBs read of the CMDB: certificates with their keys, and the answers to certificate authorities' challenges.

    /fastcontainer/userlb/certificates/NAME   PEM: certificate, chain, key
    /fastcontainer/userlb/challenges/TOKEN    key authorization, under a lease
    /fastcontainer/userlb/issued/NAME         JSON: how it was got from an authority
    /fastcontainer/userlb/account             PEM: key of the account with a certificate authority

Outside of what CMCache follows: no proxy holds a key, and an etcd user of theirs need not be let in here.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable

from dispatcher.cmdb.keys import PREFIX
from dispatcher.cmdb.store import Compacted, Store, Unavailable

ROOM = PREFIX + "userlb/"
CERTIFICATES = ROOM + "certificates/"
CHALLENGES = ROOM + "challenges/"
ISSUED = ROOM + "issued/"
ACCOUNT = ROOM + "account"
PATH = "/.well-known/acme-challenge/"  # and the token: where an authority asks
RETRY_S = 1.0

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,200}")
_AUTHORIZATION = re.compile(r"[A-Za-z0-9_.-]{1,400}")

_log = logging.getLogger(__name__)


def challenges(values: dict[str, bytes]) -> dict[str, str]:
    """Token -> key authorization; what is neither is left out, for it would be a command to HAProxy."""
    found = {}
    for key, value in values.items():
        token, answer = key.removeprefix(CHALLENGES), value.decode("ascii", "replace").strip()
        if key.startswith(CHALLENGES) and _TOKEN.fullmatch(token) and _AUTHORIZATION.fullmatch(answer):
            found[token] = answer
    return found


class Private:
    """Follows the room; `values` is what stands there. What the CMDB said last stays in force while it is away."""

    def __init__(self, store: Store, changed: Callable[[], None]) -> None:
        self._store = store
        self._changed = changed
        self.values: dict[str, bytes] = {}
        self.loaded = False

    async def run(self) -> None:
        while True:
            try:
                await self._follow(await self._load())
            except (Compacted, Unavailable) as error:
                _log.info("the UserLB's keys are read again: %s", error)
            await asyncio.sleep(RETRY_S)

    async def _load(self) -> int:
        values: dict[str, bytes] = {}
        revision = 0
        async with contextlib.aclosing(self._store.pages(ROOM)) as snapshot:
            async for page in snapshot:
                values |= {key: value.value for key, value in page.items}
                revision = page.revision
        self.values, self.loaded = values, True
        self._changed()
        return revision

    async def _follow(self, revision: int) -> None:
        async with contextlib.aclosing(self._store.watch(ROOM, revision + 1)) as batches:
            async for batch in batches:
                for event in batch.events:
                    if event.value is None:
                        self.values.pop(event.key, None)
                    else:
                        self.values[event.key] = event.value
                if batch.events:
                    self._changed()
