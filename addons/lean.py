"""A mitmproxy of only what a proxy of ours needs: no console, no scripts, no TLS. Half the cost of mitmdump."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable

from mitmproxy import options
from mitmproxy.addonmanager import AddonManager, safecall
from mitmproxy.addons import core, errorcheck, proxyserver
from mitmproxy.hooks import Hook
from mitmproxy.master import Master

from addons.proxybase import Proxy
from dispatcher.tasks import Tasks

DRAIN_S_MAX = 10.0  # what is under way may take so long when we are told to stop


class NextLayer:
    """The proxy's own hook chooses the layers; mitmproxy warns when nobody is called so."""

    name = "nextlayer"


class HookTable(AddonManager):
    """Asks only the addons that have the hook. mitmproxy asks every addon for every hook, which is a third of a request's cost."""

    def __init__(self, master: Master) -> None:
        super().__init__(master)  # type: ignore[no-untyped-call]
        self._table: dict[str, list[Callable[..., Awaitable[None] | None]]] = {}

    def _listeners(self, hook: str) -> list[Callable[..., Awaitable[None] | None]]:
        listeners = self._table.get(hook)
        if listeners is None:
            found = (getattr(addon, hook, None) for addon in self.chain)
            listeners = self._table[hook] = [listener for listener in found if listener is not None]
        return listeners

    async def handle_lifecycle(self, event: Hook) -> None:
        for listener in self._listeners(event.name):
            with safecall():
                result = listener(*event.args())
                if result is not None:
                    await result


class LeanMaster(Master):
    def __init__(self, opts: options.Options, event_loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(opts, event_loop=event_loop)
        self.addons = HookTable(self)


class Lean:
    """To be made in the event loop that it runs in."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.master = LeanMaster(options.Options(), asyncio.get_running_loop())
        self.server = proxyserver.Proxyserver()  # type: ignore[no-untyped-call]
        self._tasks = Tasks()
        self.master.addons.add(core.Core(), NextLayer(), self.server, proxy)  # type: ignore[no-untyped-call]

    async def serve(self) -> None:
        """Returns after `stop`."""
        self.master.addons.add(errorcheck.ErrorCheck(repeat_errors_on_stderr=True))  # type: ignore[no-untyped-call]
        await self.master.run()

    def stop_soon(self) -> None:
        self._tasks.start(self.stop(), name="stop")

    async def stop(self) -> None:
        """Take no more connections, let what is under way end, and leave."""
        for instance in self.server.servers:
            await instance.stop()
        try:
            async with asyncio.timeout(DRAIN_S_MAX):
                await self.proxy.idle()
        except TimeoutError:
            logging.getLogger(__name__).warning("%d requests are cut", len(self.proxy.register))
        await self.proxy.close()
        self.master.shutdown()  # type: ignore[no-untyped-call]


async def _main(proxy: Proxy, ends_with_stdin: bool) -> None:
    lean = Lean(proxy)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lean.stop_soon)
    if ends_with_stdin:
        loop.add_reader(sys.stdin.fileno(), _parent_ended, loop, lean)
    await lean.serve()


def _parent_ended(loop: asyncio.AbstractEventLoop, lean: Lean) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        loop.remove_reader(sys.stdin.fileno())
        lean.stop_soon()


def run(proxy: Proxy, *, ends_with_stdin: bool = False) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_main(proxy, ends_with_stdin))
