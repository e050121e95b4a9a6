"""One command's dealings with the CMDB and the agent: settings, an event loop, and what failed, as a Problem."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from dispatcher.cmdb.store import Store, Unavailable
from dispatcher.problems import Code, Problem
from dispatcher.settings import Settings, load

if TYPE_CHECKING:
    from dispatcher.compute.protocol import Answer, Done, Start, Stop


def settings() -> Settings:
    try:
        return load()
    except ValueError as error:
        raise Problem(Code.INVALID, f"the settings do not parse: {error}") from error


def with_store[T](work: Callable[[Store], Awaitable[T]]) -> T:
    import asyncio

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


def ask_agent[M: ("Start", "Stop")](message: M) -> "Answer | Done":
    """This host's agent."""
    import asyncio

    from dispatcher.compute.link import say

    return asyncio.run(say(settings().agent_socket, message))
