"""One request from its headers to its end, and the register of those that are under way."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.net.http import http1, status_codes

from addons import headers, messages
from addons.holding import Grant, Holding
from addons.measuring import InFlight, Metrics
from addons.routing import Backend
from addons.streams import Overdue
from dispatcher import pages
from dispatcher.accesslog import CHARACTERS_MAX, AccessLog, timestamp
from dispatcher.domain import Policy
from dispatcher.pages import Page
from dispatcher.problems import Code, Problem

_log = logging.getLogger(__name__)

CONNECT_S = 3.0  # a container that does not take a connection within this counts as dead
BODY_RATE_MIN = 512  # bytes a second: slower uploads get no more time than other requests
REFUSALS_MAX = 7  # of connections to containers here, for one request
DYING_S = 0.1  # for a Web Dispatcher; a container is left alone until its agent says that it runs
REFUSED_PAUSE_S, REFUSED_PAUSE_S_MAX = 0.02, 0.5  # after the second refusal, doubled for each more
# Idempotent: may be sent twice (RFC 9110 9.2.2).
REPEATABLE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))


@dataclass(slots=True, eq=False)
class Exchange:
    id: str
    client: str  # id of its connection
    method: str
    host: str  # header, as it came
    path: str
    accept: str
    at: float  # Unix time
    started: float  # monotonic, like all that follow
    deadline: float
    app: str = ""
    container: str = ""  # that was asked for
    policy: Policy = field(default_factory=Policy)
    forwarded: http.Request | None = None
    address: tuple[str, int] | None = None
    looked_at: bool = False  # has been tried without waiting
    backend: Backend | None = None
    expects_continue: bool = False
    has_body: bool = False
    body_begun: bool = False
    body_at: float = 0.0
    bytes_in: int = 0
    body_bytes_max: int | None = None
    bytes_out: int = 0
    failure: str = ""
    tries: int = 0
    deaths: int = 0  # of backends under it
    refusals: int = 0  # of connections
    held_s: float = 0.0
    woke: bool = False
    phases: Mapping[str, float] = field(default_factory=dict)
    dialled_at: float | None = None
    dialling: bool = False
    first_byte_at: float | None = None
    unanswered: bool = False  # holds a place at the container
    status: int = 0
    outcome: str = ""
    timer: asyncio.TimerHandle | None = None
    ended: bool = False

    @property
    def due(self) -> float:
        """One deadline for queue, start and response. While a body comes, the response's time runs from the last of it; but a
        trickle does not keep a place at the container for ever."""
        if not self.has_body:
            return self.deadline
        stalls = self.body_at + self.policy.response_timeout_s
        trickles = self.deadline + self.bytes_in / BODY_RATE_MIN
        return max(self.deadline, min(stalls, trickles))

    def pause_before_repeating(self, now: float) -> float | None:
        """Seconds, or None if it may not be repeated.

        What died under a request is replaced once. What takes no connection has not seen the request, which costs nothing to try
        again: a container that has just died until its agent has noticed, a Web Dispatcher until it has been restarted."""
        if self.body_begun or self.failure == "malformed" or self.backend is None:
            return None
        if self.failure == "died":
            repeatable = not self.deaths and self.method in REPEATABLE_METHODS
            self.deaths += 1
            # A killed process loses its connections a moment before its listening socket, which would take this one along.
            pause_s = DYING_S if self.backend.remote else 0.0
            return pause_s if repeatable else None
        self.refusals += 1
        has_time = now < self.started + self.policy.start_timeout_s
        if not has_time or (not self.backend.remote and self.refusals > REFUSALS_MAX):
            return None
        return min(REFUSED_PAUSE_S_MAX, REFUSED_PAUSE_S * 2 ** (self.refusals - 2)) if self.refusals > 1 else 0.0


class Connections(Protocol):
    """The clients' connections, by id."""

    def send(self, client: str, event: Overdue) -> None: ...

    def stop_dialling(self, client: str) -> bool: ...

    def read(self, client: str, go_on: bool) -> None: ...

    def check_later(self, client: str, delay_s: float) -> None: ...


class Register:
    """The exchanges under way, one for each connection at most. The streams' Keeper."""

    def __init__(
        self,
        connections: Connections,
        holding: Holding,
        in_flight: InFlight,
        metrics: Metrics,
        access_log: AccessLog,
        *,
        new_id: Callable[[], str],
        hears: Callable[[str], bool],
        admits: Callable[[http.HTTPFlow], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = connections
        self._holding = holding
        self._in_flight = in_flight
        self._metrics = metrics
        self._access_log = access_log
        self._new_id = new_id
        self._hears = hears
        self._admits = admits
        self._clock = clock
        self._under_way: dict[str, Exchange] = {}
        self.empty = asyncio.Event()
        self.empty.set()

    def __len__(self) -> int:
        return len(self._under_way)

    def hears(self, hook: str) -> bool:
        return self._hears(hook)

    def admits(self, flow: http.HTTPFlow) -> bool:
        return self._admits(flow)

    def now(self) -> float:
        return self._clock()

    def check_later(self, client: Client, delay_s: float) -> None:
        self._connections.check_later(client.id, delay_s)

    def begin(self, flow: http.HTTPFlow) -> Exchange:
        request, now = flow.request, self._clock()
        exchange = Exchange(
            id=self._new_id(),
            client=flow.client_conn.id,
            method=request.method,
            host=request.headers.get("host", ""),
            path=request.path,
            accept=request.headers.get("accept", ""),
            at=time.time(),
            started=now,
            deadline=now + Policy().start_timeout_s,
            has_body="content-length" in request.headers or "transfer-encoding" in request.headers,
            body_at=now,
        )
        self._under_way[exchange.client] = exchange
        self.empty.clear()
        return exchange

    def passage(self, flow: http.HTTPFlow) -> Exchange:
        return self._under_way[flow.client_conn.id]

    def granted(self, exchange: Exchange, grant: Grant) -> None:
        self._let_go(exchange)
        exchange.tries += 1
        exchange.backend, exchange.address = grant.backend, grant.backend.address
        exchange.held_s += grant.waited_s
        exchange.unanswered = True
        self._in_flight.up(grant.backend.key)
        if grant.woke:
            exchange.woke, exchange.phases = True, grant.phases

    def _let_go(self, exchange: Exchange) -> None:
        if exchange.backend is not None:
            self._answered(exchange)
            self._in_flight.down(exchange.backend.key)
            exchange.backend = exchange.address = None

    def _answered(self, exchange: Exchange) -> None:
        if exchange.unanswered:
            assert exchange.backend is not None
            exchange.unanswered = False
            self._holding.answered(exchange.app, exchange.backend)

    def dialling(self, flow: http.HTTPFlow) -> None:
        exchange = self.passage(flow)
        exchange.dialling, exchange.dialled_at = True, self._clock()
        self._set_timer(exchange, min(exchange.due, self._clock() + CONNECT_S))

    def flowing(self, flow: http.HTTPFlow) -> None:
        exchange = self._under_way.get(flow.client_conn.id)
        self._connections.read(flow.client_conn.id, True)
        if exchange is not None:
            exchange.dialling = False
            exchange.body_at = self._clock()
            self._set_timer(exchange, exchange.due)

    def enough(self, flow: http.HTTPFlow) -> None:
        self._connections.read(flow.client_conn.id, False)

    def _set_timer(self, exchange: Exchange, when: float) -> None:
        if exchange.timer is not None:
            exchange.timer.cancel()
        delay = max(0.0, when - self._clock())
        exchange.timer = asyncio.get_running_loop().call_later(delay, self._time_up, exchange)

    def _time_up(self, exchange: Exchange) -> None:
        exchange.timer = None
        if exchange.ended or exchange.first_byte_at is not None:
            return
        if exchange.dialling and self._connections.stop_dialling(exchange.client):
            return
        if self._clock() < exchange.due:
            self._set_timer(exchange, exchange.due)
        else:
            self._connections.send(exchange.client, Overdue())

    def overdue_page(self, flow: http.HTTPFlow) -> http.Response | None:
        exchange = self.passage(flow)
        if self._clock() < exchange.due:
            return None
        return self.problem(flow, Problem(Code.DEADLINE, f"{exchange.app} did not answer in time"))

    def too_large_page(self, flow: http.HTTPFlow) -> http.Response | None:
        exchange = self.passage(flow)
        if exchange.body_bytes_max is None or exchange.bytes_in <= exchange.body_bytes_max:
            return None
        return self.problem(flow, Problem(Code.BODY_TOO_LARGE, f"{exchange.app} takes {exchange.body_bytes_max} bytes"))

    def internal_page(self, flow: http.HTTPFlow) -> http.Response:
        return self.problem(flow, Problem(Code.INTERNAL, "a hook failed"))

    def problem(self, flow: http.HTTPFlow, problem: Problem) -> http.Response:
        exchange = self.passage(flow)
        if problem.code is Code.INTERNAL:
            _log.error("request %s of %s: %s", exchange.id, exchange.app or "no app", problem.message)
        return self.page(flow, pages.problem_page(problem, exchange.id, exchange.accept), problem.code)

    def page(self, flow: http.HTTPFlow, page: Page, outcome: str) -> http.Response:
        exchange = self.passage(flow)
        self._let_go(exchange)
        exchange.status, exchange.outcome = page.status, outcome
        return own_response(page, exchange.id, flow.request)

    def refusal(self, client: Client, request: http.Request | None, status: int, detail: str) -> http.Response:
        refused = self._new_id()
        self._metrics.request("", "refused")
        line: dict[str, Any] = {"time": timestamp(time.time()), "id": refused, "status": status, "outcome": "refused"}
        line |= {"client": client.peername[0] if client.peername else "", "detail": detail}
        self._access_log.write(line)
        return own_response(pages.refusal_page(status, detail, refused), refused, None)

    def answered(self, flow: http.HTTPFlow, response: http.Response) -> http.Response:
        exchange = self.passage(flow)
        assert exchange.dialled_at is not None
        now = exchange.first_byte_at = self._clock()
        if exchange.timer is not None:
            exchange.timer.cancel()
            exchange.timer = None
        self._answered(exchange)
        self._metrics.response(exchange.app, now - exchange.dialled_at)
        exchange.status, exchange.outcome = response.status_code, "passed"
        timing = server_timing(exchange) if exchange.policy.server_timing else None
        return passed_response(response, flow.request, timing)

    def ended(self, flow: http.HTTPFlow, outcome: str) -> None:
        exchange = self._under_way.get(flow.client_conn.id)
        if exchange is not None:
            self._end(exchange, outcome)

    def client_gone(self, client: str) -> None:
        """Its connection is closed: the end of a WebSocket, or of whatever was under way."""
        self._holding.leave(client)
        exchange = self._under_way.get(client)
        if exchange is not None:
            self._end(exchange, "" if exchange.status == 101 else "client_left")

    def _end(self, exchange: Exchange, outcome: str) -> None:
        exchange.ended = True
        del self._under_way[exchange.client]
        if not self._under_way:
            self.empty.set()
        if exchange.timer is not None:
            exchange.timer.cancel()
        container, life = "", ""
        if exchange.backend is not None:
            container, life = exchange.backend.container, exchange.backend.life
            self._let_go(exchange)
        if outcome and not (exchange.outcome and outcome == "client_left" and exchange.outcome != "passed"):
            exchange.outcome = outcome
        self._metrics.request(exchange.app, exchange.outcome)
        if exchange.woke:
            self._metrics.wake(exchange.held_s, exchange.phases)
        self._access_log.write(log_line(exchange, container, life, self._clock()))


def log_line(exchange: Exchange, container: str, life: str, now: float) -> dict[str, Any]:
    line: dict[str, Any] = {
        "time": timestamp(exchange.at),
        "id": exchange.id,
        "method": exchange.method,
        "host": exchange.host[:CHARACTERS_MAX],
        "path": exchange.path[:CHARACTERS_MAX],
        "status": exchange.status,
        "outcome": exchange.outcome,
        "app": exchange.app,
        "container": container,
        "life": life,
        "ms": round((now - exchange.started) * 1000, 2),
        "bytes": exchange.bytes_out,
    }
    if exchange.first_byte_at is not None:
        line["first_byte_ms"] = round((exchange.first_byte_at - exchange.started) * 1000, 2)
    if exchange.held_s:
        line["held_ms"] = round(exchange.held_s * 1000, 2)
    if exchange.woke:
        line["wake_ms"] = round(exchange.held_s * 1000, 2)
        line["cause"] = "request"
    if exchange.tries > 1:
        line["tries"] = exchange.tries
    return line


def server_timing(exchange: Exchange) -> bytes:
    assert exchange.dialled_at is not None and exchange.first_byte_at is not None
    parts = [f"queue;dur={exchange.held_s * 1000:.1f}"]
    parts += [f"{phase};dur={milliseconds:.1f}" for phase, milliseconds in exchange.phases.items()]
    parts.append(f"firstbyte;dur={(exchange.first_byte_at - exchange.dialled_at) * 1000:.1f}")
    return ", ".join(parts).encode("ascii", "replace")


def own_response(page: Page, request_id: str, request: http.Request | None) -> http.Response:
    """`request` is None when it could not be read: then the connection is closed."""
    fields = [
        (b"Content-Type", page.content_type),
        (b"Content-Length", b"%d" % len(page.body)),
        (b"Cache-Control", b"no-store"),
        (b"X-Request-Id", request_id.encode()),
    ]
    if page.retry_after_s is not None:
        fields.append((b"Retry-After", b"%d" % page.retry_after_s))
    if request is None or _client_closes(request):
        fields.append((b"Connection", b"close"))
    body = b"" if request is not None and request.method == "HEAD" else page.body
    return messages.response(page.status, status_codes.RESPONSES.get(page.status, "").encode(), fields, content=body)


def passed_response(response: http.Response, request: http.Request, timing: bytes | None) -> http.Response:
    """A container's response as the client gets it: in HTTP/1.1, framed so that the client's connection stays usable."""
    fields = headers.end_to_end(response.headers.fields)
    status = response.status_code
    if status == 101:
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", _first(response, b"upgrade"))]
        return messages.response(status, response.data.reason, fields)
    no_body = status in (204, 304) or request.method == "HEAD"
    chunked = "transfer-encoding" in response.headers
    if chunked and (status in (204, 304) or request.is_http10):
        fields = [(name, value) for name, value in fields if name.lower() != b"transfer-encoding"]
    elif not no_body and not request.is_http10 and http1.expected_http_body_size(request, response) == -1:
        fields = [(name, value) for name, value in fields if name.lower() != b"transfer-encoding"]
        fields.append((b"Transfer-Encoding", b"chunked"))
    if timing is not None:
        fields.append((b"Server-Timing", timing))
    if _client_closes(request):
        fields.append((b"Connection", b"close"))
    return messages.response(status, response.data.reason, fields)


def _first(response: http.Response, name: bytes) -> bytes:
    return next((value for key, value in response.headers.fields if key.lower() == name), b"")


def _client_closes(request: http.Request) -> bool:
    return request.is_http10 or "close" in request.headers.get("connection", "").lower()
