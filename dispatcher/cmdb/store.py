"""What this system asks of the CMDB's store. Two stores keep these promises: etcd (client.py) and a memory-backed one
(memory.py); one conformance suite runs over both.

Keys are text under keys.PREFIX, values are bytes. Every method may raise Unavailable; whether a commit that raised it took
place is unknown: read again.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Protocol


class Unavailable(Exception):
    """The store does not answer, has no leader, or takes no writes (NOSPACE counts as down)."""


class Compacted(Exception):
    """What was asked for is older than what the store still keeps: load again."""


class LeaseLost(Exception):
    """A put named a lease that has expired or was revoked; nothing of its transaction took place."""


class Value(NamedTuple):
    value: bytes
    mod_revision: int


class Page(NamedTuple):
    revision: int  # of the snapshot: the same for all pages of one listing
    items: list[tuple[str, Value]]


class Event(NamedTuple):
    key: str
    value: bytes | None  # None: deleted
    mod_revision: int


class Batch(NamedTuple):
    """Events in order. An empty batch is a heartbeat: the store answered and its newest revision is `revision`."""

    revision: int
    events: list[Event]


class Unchanged(NamedTuple):
    """Holds if the key was last changed at this revision; 0: the key is absent."""

    key: str
    mod_revision: int


class Put(NamedTuple):
    key: str
    value: bytes
    lease: int = 0


class Delete(NamedTuple):
    key: str


class Store(Protocol):
    async def get(self, key: str) -> Value | None: ...

    async def list(self, prefix: str) -> list[tuple[str, Value]]:
        """All keys with this prefix in key order, paged inside."""

    # With `until`, these two cover all keys from `prefix` up to, but without, `until`: who reads configuration is not sent events.

    def pages(self, prefix: str, until: str = "") -> AsyncGenerator[Page]:
        """One snapshot in pages, all at the first page's revision. Raises Compacted when it took too long."""

    def watch(self, prefix: str, from_revision: int, until: str = "") -> AsyncGenerator[Batch]:
        """Everything from this revision on, with heartbeats, the first one at once. Raises Compacted, also when the store's
        revision went backwards (a restore, a wiped disk), or Unavailable when the stream ends or stalls. Use it with
        contextlib.aclosing."""

    async def commit(self, when: Sequence[Unchanged], then: Sequence[Put | Delete]) -> int | None:
        """All of `then` in one transaction if all of `when` holds: the new revision, or None if something changed meanwhile.
        At most 128 conditions and as many operations. Raises LeaseLost."""

    async def grant(self, ttl_s: int) -> int:
        """A new lease; the store may round the time up."""

    async def keep_alive(self, lease: int) -> bool:
        """False: the lease is lost, and its keys with it."""

    async def revoke(self, lease: int) -> None: ...

    async def close(self) -> None: ...
