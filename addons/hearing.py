"""Which hooks somebody else than our own addon wants to hear."""

import time
from collections.abc import Callable

from mitmproxy.addonmanager import traverse
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.master import Master

LOOK_EVERY_S = 1.0  # scripts and options may change at any time
# Options that ask nothing of mitmproxy's own addons that concerns a request of ours: where it listens, and what we set ourselves.
_HARMLESS = {
    "mode", "server", "listen_host", "listen_port", "block_global", "block_private", "confdir", "scripts", "connection_strategy",
    "keep_host_header", "tcp_timeout", "websocket", "flow_detail", "termlog_verbosity", "show_ignored_hosts",
}  # fmt: skip


class Others:
    """mitmproxy offers each of its 40 addons every event of every request, for what none of them does unless an option says so:
    more than half of a request's cost. They are left out while no option does. Scripts and other people's addons hear everything.
    """

    def __init__(self, master: Master, ours: object, clock: Callable[[], float] = time.monotonic) -> None:
        self._master = master
        self._ours = ours
        self._clock = clock
        self._looked_at = -LOOK_EVERY_S
        self._heard: dict[str, bool] = {}

    def hear(self, hook: str) -> bool:
        now = self._clock()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._heard.clear()
        heard = self._heard.get(hook)
        if heard is None:
            heard = self._heard[hook] = self._look(hook)
        return heard

    def _look(self, hook: str) -> bool:
        options = self._master.options
        plain = not any(
            options.has_changed(name)  # type: ignore[no-untyped-call]
            for name in options.keys()  # type: ignore[no-untyped-call]  # noqa: SIM118 - it is no mapping
            if name not in _HARMLESS
        )
        for addon in traverse(self._master.addons.chain):  # type: ignore[no-untyped-call]
            is_mitmproxys = type(addon).__module__.startswith("mitmproxy.")
            if addon is self._ours or (is_mitmproxys and (plain or isinstance(addon, Proxyserver))):
                continue
            if callable(getattr(addon, hook, None)):
                return True
        return False
