"""UserProxy: host name -> app -> container -> its Compute. Holds, bounds and measures.

mitmdump -s addons/userproxy.py          the addon in mitmdump
fastcontainer-userproxy                  the same in a mitmproxy of only what it needs
fastcontainer-userproxy --workers 2      two of them, on consecutive ports
"""

import argparse
import asyncio
import importlib.util
import sys
import time
from pathlib import Path

if importlib.util.find_spec("dispatcher") is None:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

import msgspec
from mitmproxy import http
from msgspec import structs

from addons import headers, lean, routing, signing, workers
from addons.exchange import Exchange
from addons.proxybase import Proxy, forwarded_request, host_of
from addons.view import WholeView
from dispatcher import pages
from dispatcher import settings as settings_module
from dispatcher.domain import App, Switch, WhileStarting
from dispatcher.problems import Code, Problem
from dispatcher.settings import Settings  # not `load`, which mitmproxy would take for a hook of this script's

PAGE_AFTER_S = 0.25  # a start that is quicker, or fails at once, shows its result instead of the waiting page
LOAD_S_MAX = 10.0  # how long the first requests wait for CMCache and the agent


class UserProxy(Proxy):
    name = role = "userproxy"

    @property
    def listen(self) -> str:
        return self.settings.userproxy_listen

    @property
    def metrics_listen(self) -> str:
        return self.settings.userproxy_metrics

    def _make_view(self) -> WholeView:
        settings = self.settings
        return WholeView(
            self.link, self.cache, compute=settings.compute, short_cut=settings.short_cut, clock=time.monotonic
        )

    def admit_at_once(self, flow: http.HTTPFlow, exchange: Exchange) -> bool:
        if not self.loaded.is_set():
            return False
        app = self._app_of(exchange)
        if self._is_worked_on(app, flow, exchange):
            return True
        routing.check_switch(app)
        self._is_for(app, flow, exchange)
        if not self.obtain_at_once(app, exchange):
            return False
        self._address(flow, exchange)
        return True

    async def admit(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        await self._until_loaded()
        app = self._app_of(exchange)
        if self._is_worked_on(app, flow, exchange):
            return
        routing.check_switch(app)
        self._is_for(app, flow, exchange)
        policy, deadline = exchange.policy, exchange.deadline
        shows_page = False
        if not self.view.running(app):
            if routing.is_bot(flow.request.headers.get("user-agent", "")) and not policy.wake_by_bots:
                flow.response = self.register.page(flow, pages.asleep_for_bots(exchange.id, exchange.accept), "bot")
                return
            shows_page = policy.while_starting is WhileStarting.PAGE and _wants_a_page(flow.request)
            deadline = exchange.started + (PAGE_AFTER_S if shows_page else policy.start_timeout_s)
        try:
            await self.obtain(app, exchange, deadline=deadline)
        except Problem as problem:
            if not shows_page or problem.code is not Code.START_TIMEOUT:
                raise
            flow.response = self.register.page(flow, pages.waiting_page(exchange.id), "waiting_page")
            return
        self._address(flow, exchange)

    async def readmit(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        app = self.cache.app(exchange.app)
        if app is None:
            raise Problem(Code.UNKNOWN_APP, f"{exchange.app} was removed")
        await self.obtain(app, exchange, deadline=exchange.deadline)
        self._address(flow, exchange)

    async def _until_loaded(self) -> None:
        if not self.loaded.is_set():
            try:
                async with asyncio.timeout(LOAD_S_MAX):
                    await self.loaded.wait()
            except TimeoutError:
                raise Problem(Code.CMDB_DOWN, "CMCache has not been loaded yet") from None

    def _app_of(self, exchange: Exchange) -> App:
        try:
            host = routing.host_name(exchange.host)
        except ValueError as error:
            raise Problem(Code.UNKNOWN_HOST, str(error)) from None
        name = self.cache.app_for(host)
        app = None if name is None else self.cache.app(name)
        if app is None:
            raise Problem(Code.UNKNOWN_HOST, f"{host} is no app's domain")
        return app

    def _is_worked_on(self, app: App, flow: http.HTTPFlow, exchange: Exchange) -> bool:
        """And has a page of its own for that, which is on the flow then."""
        page = app.spec.front.maintenance_page
        if app.switch is not Switch.MAINTENANCE or not page or not pages.prefers_html(exchange.accept):
            return False
        flow.response = self.register.page(flow, pages.maintenance_page(page), Code.MAINTENANCE)
        return True

    def _is_for(self, app: App, flow: http.HTTPFlow, exchange: Exchange) -> None:
        exchange.body_bytes_max = app.spec.front.body_bytes_max
        if exchange.body_bytes_max is not None:
            routing.check_length(flow.request.headers.get("content-length", ""), exchange.body_bytes_max)
        policy = app.spec.policy
        exchange.app, exchange.policy = app.name, policy
        exchange.deadline = exchange.started + policy.start_timeout_s + policy.response_timeout_s

    def _address(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        assert exchange.backend is not None
        request, peer = flow.request, flow.client_conn.peername[0]
        host = host_of(request)
        upgrade = headers.wanted_upgrade(request.headers.fields)
        fields = headers.end_to_end(request.headers.fields)
        if not headers.is_trusted(peer, self._userlbs):
            trust = headers.is_trusted(peer, self._trusted)
            fields = headers.with_forwarded(fields, peer=peer, host=host, trust=trust)
        if exchange.backend.remote:
            once = exchange.id if exchange.tries == 1 else f"{exchange.id}-{exchange.tries}"
            route = signing.Route(exchange.app, exchange.backend.container, once, time.time())
            signed = signing.sign(self.route_key(), route, method=request.method, host=host)
            fields.append((headers.ROUTE, signed.encode()))
        exchange.expects_continue = request.headers.get("expect", "").lower() == "100-continue"
        exchange.forwarded = forwarded_request(request, fields, upgrade)
        request.data.host, request.data.port = exchange.backend.address


def _wants_a_page(request: http.Request) -> bool:
    """A person who opens the site in a browser. Images, scripts and API clients cannot do anything with a page: they are held."""
    mode = request.headers.get("sec-fetch-mode", "navigate")
    return request.method == "GET" and mode == "navigate" and pages.prefers_html(request.headers.get("accept", ""))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="fastcontainer userproxy", description="Finds an app's container and holds requests while it starts."
    )
    parser.add_argument("--workers", type=int, metavar="N", help="so many processes, whatever the setting says")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # one of them
    arguments = parser.parse_args()
    try:
        settings = settings_module.load()
        if arguments.workers is not None:
            told = {**structs.asdict(settings), "userproxy_workers": arguments.workers}
            settings = msgspec.convert(told, Settings)
        if settings.userproxy_workers > 1:
            settings.check_listeners()
    except ValueError as error:
        parser.error(str(error))
    if arguments.worker is not None:
        lean.run(UserProxy(settings.of_worker(arguments.worker), worker=arguments.worker), ends_with_stdin=True)
    elif settings.userproxy_workers > 1:
        workers.run(settings)
    else:
        lean.run(UserProxy(settings))


addons = [UserProxy()] if __name__.startswith("__mitmproxy_script__") else []

if __name__ == "__main__":
    main()
