"""Web Dispatcher: the door of one Compute for the UserProxies of others. Has the container started if need be, holds, forwards.

mitmdump -s addons/webdispatcher.py      the addon in mitmdump
fastcontainer-webdispatcher              the same in a mitmproxy of only what it needs, at half the cost
"""

import importlib.util
import logging
import sys
import time
from collections import OrderedDict
from pathlib import Path

if importlib.util.find_spec("dispatcher") is None:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from mitmproxy import http

from addons import headers, lean, signing
from addons.exchange import Exchange
from addons.proxybase import Proxy, forwarded_request, host_of
from addons.view import LocalView
from dispatcher.domain import App, AppSpec
from dispatcher.problems import Code, Problem

_log = logging.getLogger(__name__)

SEEN_MAX = 200_000  # request ids that are remembered against replay


class WebDispatcher(Proxy):
    name = role = "webdispatcher"

    @property
    def listen(self) -> str:
        return self.settings.webdispatcher_listen

    @property
    def metrics_listen(self) -> str:
        return self.settings.webdispatcher_metrics

    def _make_view(self) -> LocalView:
        self._seen: OrderedDict[str, float] = OrderedDict()
        return LocalView(self.link, compute=self.settings.compute, clock=time.monotonic)

    def admit_at_once(self, flow: http.HTTPFlow, exchange: Exchange) -> bool:
        route = self._route(flow)  # good once
        app = self._app(route.app)
        policy = app.spec.policy
        exchange.id, exchange.app, exchange.policy = route.request_id, app.name, policy
        exchange.container = route.container
        exchange.deadline = exchange.started + policy.start_timeout_s + policy.response_timeout_s
        if not self.obtain_at_once(app, exchange):
            return False
        self._address(flow, exchange)
        return True

    async def admit(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        app = self._app(exchange.app)
        policy = exchange.policy
        waits_s = policy.response_timeout_s if self.view.running(app) else 0.0
        deadline = exchange.started + policy.start_timeout_s + waits_s
        await self.obtain(app, exchange, deadline=deadline, wanted=exchange.container)
        self._address(flow, exchange)

    async def readmit(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        app = self._app(exchange.app)
        await self.obtain(app, exchange, deadline=exchange.deadline, wanted=exchange.container)
        self._address(flow, exchange)

    def _app(self, name: str) -> App:
        """The UserProxy has seen the app; CMCache here may lag behind, or etcd be down since we were started."""
        return self.cache.app(name) or App(name, AppSpec(command=("unknown",)))

    def _route(self, flow: http.HTTPFlow) -> signing.Route:
        sent = flow.request.headers.get_all(headers.ROUTE.decode())
        if len(sent) != 1:
            raise Problem(Code.FORBIDDEN, f"{len(sent)} routing headers")
        now = time.time()
        while self._seen and next(iter(self._seen.values())) < now - 2 * signing.VALID_S:
            self._seen.popitem(last=False)
        key, host = self.route_key(), host_of(flow.request)
        try:
            route = signing.verify(key, sent[0], method=flow.request.method, host=host, now=now, seen=self._seen)
        except ValueError as error:
            _log.warning("refused: %s", error)
            raise Problem(Code.FORBIDDEN, str(error)) from None
        if len(self._seen) >= SEEN_MAX:
            raise Problem(Code.QUEUE_FULL, "more requests in a minute than can be told from replayed ones")
        self._seen[route.request_id] = now
        return route

    def _address(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """The UserProxy has written the X-Forwarded-* headers, and only a UserProxy gets here: they stay as they are."""
        assert exchange.backend is not None
        request = flow.request
        upgrade = headers.wanted_upgrade(request.headers.fields)
        exchange.forwarded = forwarded_request(request, headers.end_to_end(request.headers.fields), upgrade)
        exchange.expects_continue = request.headers.get("expect", "").lower() == "100-continue"
        request.data.host, request.data.port = exchange.backend.address


def main() -> None:
    lean.run(WebDispatcher())


addons = [WebDispatcher()] if __name__.startswith("__mitmproxy_script__") else []

if __name__ == "__main__":
    main()
