"""One command's dealings with the CMDB: settings, a store, an event loop; and what failed, as a Problem."""

import asyncio
from collections.abc import Awaitable, Callable

from dispatcher.cmdb.store import Store, Unavailable
from dispatcher.problems import Code, Problem
from dispatcher.settings import Settings, load


def settings() -> Settings:
    try:
        return load()
    except ValueError as error:
        raise Problem(Code.INVALID, f"the settings do not parse: {error}") from error


def with_store[T](work: Callable[[Store], Awaitable[T]]) -> T:
    from dispatcher.cmdb.client import EtcdStore

    configured = settings()

    async def session() -> T:
        store = EtcdStore(configured)
        try:
            return await work(store)
        finally:
            await store.close()

    try:
        return asyncio.run(session())
    except Unavailable as error:
        where = ", ".join(configured.etcd)
        hint = "is it running? A change that was under way may have taken place: look before you repeat it"
        raise Problem(Code.CMDB_DOWN, f"etcd at {where} does not answer: {error}", hint=hint) from error
