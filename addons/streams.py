"""How a request and its response pass through: mitmproxy's HttpStream and HttpLayer, with what hooks alone cannot do.

A request is held in the `requestheaders` hook with its body unread; what the hook leaves decides: a response of our own, or a
backend to dial. When a backend fails before its response, the hook `backend_failed` is asked for another one. Error pages are ours.
The rest of the proxy is reached through `Keeper`. Pinned to mitmproxy 12.2; tests/addons/test_conformance.py notices a change.
"""

import logging
from dataclasses import dataclass
from typing import Protocol

from mitmproxy import http
from mitmproxy.connection import Connection, Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import GetHttpConnection, HTTPMode, RegisterHttpConnection, SendHttp
from mitmproxy.proxy.layers.http._base import HttpEvent
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import HttpRequestHeadersHook, HttpResponseHeadersHook
from mitmproxy.proxy.layers.tcp import TCPLayer

from addons.connections import BACKEND_CLOSES_S_MAX, Back, Front, Surroundings

_log = logging.getLogger(__name__)

QUEUED_BYTES_MAX = 64 << 10  # of the body of a held request; the rest stays in the client's socket
DISCARDED_BYTES_MAX = 256 << 10  # of the body of a request that was answered without reading it


class Passage(Protocol):
    """One request, as far as its stream is concerned."""

    forwarded: http.Request | None  # as it goes to the backend
    address: tuple[str, int] | None  # of the backend
    expects_continue: bool
    body_begun: bool  # so that it cannot be repeated
    body_at: float  # when the last of the body came
    bytes_in: int  # of the request's body
    bytes_out: int  # of the response's
    failure: str  # of the last backend: "" | connect | died | malformed


class Keeper(Surroundings, Protocol):
    def hears(self, hook: str) -> bool:
        """Whether any addon but ours has this hook."""

    def admits(self, flow: http.HTTPFlow) -> bool:
        """Whether the request has got a backend or a response at once. If not, or if others have a say before, the hook
        `requestheaders` sees to it."""

    def begin(self, flow: http.HTTPFlow) -> Passage: ...

    def passage(self, flow: http.HTTPFlow) -> Passage: ...

    def dialling(self, flow: http.HTTPFlow) -> None: ...

    def flowing(self, flow: http.HTTPFlow) -> None:
        """The backend is there, or we have answered: no reason any more to leave the body unread."""

    def enough(self, flow: http.HTTPFlow) -> None:
        """As much of the body as a held request may have is here: read no more until it is `flowing`."""

    def overdue_page(self, flow: http.HTTPFlow) -> http.Response | None:
        """None while there is time left."""

    def too_large_page(self, flow: http.HTTPFlow) -> http.Response | None:
        """None while the request's body is no larger than its app allows."""

    def internal_page(self, flow: http.HTTPFlow) -> http.Response: ...

    def answered(self, flow: http.HTTPFlow, response: http.Response) -> http.Response:
        """The backend's response has begun; returns it as the client gets it."""

    def ended(self, flow: http.HTTPFlow, outcome: str) -> None:
        """May be said more than once; the first counts."""


@dataclass
class BackendFailedHook(commands.StartHook):  # type: ignore[no-untyped-call]
    """A backend could not be reached, or died before its response. Leaves another backend or a response on the flow."""

    flow: http.HTTPFlow


class Overdue(events.Event):
    """The request's deadline has come."""


class PeerOverdue(events.Event):
    """The client, or a backend that is to close, took too long over its next step."""


class Stream(http_layers.HttpStream):
    def __init__(self, context: Context, stream_id: int, keeper: Keeper) -> None:
        super().__init__(context, stream_id)
        self._keeper = keeper
        self._answered_ourselves = False
        self._discarded_bytes = 0
        self._queued_bytes = 0
        self._is_held = True

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        # A paused layer queues what comes, and mitmproxy goes on reading.
        if self._is_held and self._paused and isinstance(event, RequestData):
            self._queued_bytes += len(event.data)
            if self._queued_bytes > QUEUED_BYTES_MAX:
                self._keeper.enough(self.flow)
        yield from super().handle_event(event)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, Overdue):
            yield from self.overdue()
        else:
            yield from super()._handle_event(event)

    def state_wait_for_request_headers(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        assert isinstance(event, RequestHeaders)
        self.flow = http.HTTPFlow(self.context.client, self.context.server)
        self.flow.request = event.request
        self.flow.request.stream = True
        self.flow.live = True
        self._keeper.begin(self.flow)
        if self._keeper.hears("requestheaders") or not self._keeper.admits(self.flow):
            yield HttpRequestHeadersHook(self.flow)
            if (yield from self.client_left()):
                return
        if self.flow.response is None and self._keeper.passage(self.flow).address is None:
            self.flow.response = self._keeper.internal_page(self.flow)  # a hook failed: nothing is forwarded
        if self.flow.response is not None:
            yield from self.answer()
        elif (yield from self.make_server_connection()):
            if self._keeper.passage(self.flow).expects_continue:
                yield commands.SendData(self.context.client, b"HTTP/1.1 100 Continue\r\n\r\n")
            yield from self.send_head()
            self.client_state = self.state_stream_request_body

    def _let_flow(self) -> None:
        self._is_held = False
        self._keeper.flowing(self.flow)

    def send_head(self) -> layer.CommandGenerator[None]:
        self._let_flow()
        self.server_state = self.state_wait_for_response_headers
        head = self._keeper.passage(self.flow).forwarded
        assert head is not None
        yield SendHttp(RequestHeaders(self.stream_id, head, end_stream=False), self.context.server)

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """Dial the backend, or another one instead; False when the client got an answer from us or is gone."""
        while True:
            passage = self._keeper.passage(self.flow)
            assert passage.address is not None
            self._keeper.dialling(self.flow)
            connection, error = yield GetHttpConnection(passage.address, False, None)
            if (yield from self.client_left()):
                return False
            if error is None:
                self.context.server = self.flow.server_conn = connection
                return True
            passage.failure = "connect"
            if not (yield from self.another_backend()):
                return False

    def another_backend(self) -> layer.CommandGenerator[bool]:
        self.flow.response = self._keeper.overdue_page(self.flow)
        if self.flow.response is None:
            yield BackendFailedHook(self.flow)
            if (yield from self.client_left()):
                return False
        if self.flow.response is not None:
            yield from self.answer()
        return self.flow.response is None

    def client_left(self) -> layer.CommandGenerator[bool]:
        if (yield from self.check_killed(True)):
            self._keeper.ended(self.flow, "client_left")
            return True
        return False

    def answer(self) -> layer.CommandGenerator[None]:
        """Send the response that is on the flow in our own name. The body that the client may still send is read and dropped."""
        self._answered_ourselves = True
        self._let_flow()
        if self.client_state != self.state_done:
            self.client_state = self.state_discard_request_body
        yield from self.send_response()
        self._keeper.ended(self.flow, "")

    def state_discard_request_body(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            yield from self.flow_done()
        elif isinstance(event, RequestData):
            self._discarded_bytes += len(event.data)
            if self._discarded_bytes > DISCARDED_BYTES_MAX:
                self.client_state = self.state_errored
                gone = ResponseProtocolError(self.stream_id, "unread body", ErrorCode.CANCEL)
                yield SendHttp(gone, self.context.client)

    def state_stream_request_body(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestData):
            passage = self._keeper.passage(self.flow)
            passage.body_begun = True
            passage.body_at = self._keeper.now()
            passage.bytes_in += len(event.data)
            if (page := self._keeper.too_large_page(self.flow)) is not None:
                yield from self.refuse_body(page)
                return
        yield from super().state_stream_request_body(event)

    def refuse_body(self, page: http.Response) -> layer.CommandGenerator[None]:
        """The container sees its connection end within the body, and so does a client whose response has begun."""
        yield commands.CloseConnection(self.context.server)
        if self.server_state == self.state_wait_for_response_headers:
            self.flow.response = page
            yield from self.answer()
        else:
            self.client_state = self.state_errored
            yield SendHttp(
                ResponseProtocolError(self.stream_id, "body too large", ErrorCode.CANCEL), self.context.client
            )
            self._keeper.ended(self.flow, "cut")

    def state_stream_response_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseData):
            self._keeper.passage(self.flow).bytes_out += len(event.data)
        yield from super().state_stream_response_body(event)

    def state_wait_for_response_headers(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        assert isinstance(event, ResponseHeaders)
        self.flow.response = self._keeper.answered(self.flow, event.response)
        self.flow.response.stream = True
        yield HttpResponseHeadersHook(self.flow)
        if (yield from self.client_left()):
            return
        if self.flow.response.status_code == 101:
            self.server_state = self.state_consume_response_body
            return
        yield SendHttp(ResponseHeaders(self.stream_id, self.flow.response, end_stream=False), self.context.client)
        self.server_state = self.state_stream_response_body

    def flow_done(self) -> layer.CommandGenerator[None]:
        assert self.flow.response is not None
        if self.flow.response.status_code == 101:
            # mitmproxy would take WebSockets apart, hold each message until it is complete and keep them all.
            self.child_layer = TCPLayer(self.context, ignore=True)
            self._handle_event = self.passthrough  # type: ignore[method-assign]
            yield from self.child_layer.handle_event(events.Start())
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        else:
            self._keeper.ended(self.flow, "")
            yield from super().flow_done()

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestProtocolError):
            yield from super().handle_protocol_error(event)
            self._keeper.ended(self.flow, "client_left")
        elif self._answered_ourselves:
            pass  # the backend that we gave up
        elif self.server_state == self.state_wait_for_response_headers and self.client_state != self.state_errored:
            malformed = event.code is ErrorCode.RESPONSE_VALIDATION_FAILED
            self._keeper.passage(self.flow).failure = "malformed" if malformed else "died"
            yield from self.repeat()
        elif self.server_state == self.state_done and self.client_state == self.state_stream_request_body:
            self.client_state = self.state_discard_request_body  # answered and closed without reading all of the body
        else:
            yield from super().handle_protocol_error(event)
            self._keeper.ended(self.flow, "cut")

    def repeat(self) -> layer.CommandGenerator[None]:
        if not (yield from self.another_backend()) or not (yield from self.make_server_connection()):
            return
        yield from self.send_head()
        if self.client_state == self.state_done:
            yield SendHttp(RequestEndOfMessage(self.stream_id), self.context.server)

    def overdue(self) -> layer.CommandGenerator[None]:
        waits = self.server_state == self.state_wait_for_response_headers and self.client_state != self.state_errored
        if waits and (page := self._keeper.overdue_page(self.flow)) is not None:
            self.flow.response = page
            self._answered_ourselves = True
            yield commands.CloseConnection(self.context.server)
            yield from self.answer()


def _fork(context: Context) -> Context:
    """As Context.fork, which makes a Server with an id of 128 random bits first, to throw it away."""
    forked = Context.__new__(Context)
    forked.client, forked.options, forked.server = context.client, context.options, context.server
    forked.layers = context.layers.copy()
    return forked


class _Dial(layer.Layer):
    """mitmproxy's HttpClient, with our parser."""

    def __init__(self, context: Context, closing: dict[Connection, float], keeper: Keeper) -> None:
        super().__init__(context)
        self._closing = closing
        self._keeper = keeper

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        assert isinstance(event, events.Start)
        error = yield commands.OpenConnection(self.context.server)
        if not error:
            child = Back(self.context, self._closing, self._keeper)
            self._handle_event = child.handle_event  # type: ignore[method-assign]
            yield from child.handle_event(event)
        yield RegisterHttpConnection(self.context.server, error)


class Layer(http_layers.HttpLayer):
    """One connection of a client."""

    def __init__(self, context: Context, keeper: Keeper) -> None:
        super().__init__(context, HTTPMode.transparent)
        self._keeper = keeper
        self.front = Front(_fork(context), keeper)
        self.connections[context.client] = self.front
        self._closing: dict[Connection, float] = {}

    def overdue(self, now: float) -> bool:
        """Whether somebody took too long over the next step; a PeerOverdue then ends it."""
        return self.front.overdue(now) or any(now - since >= BACKEND_CLOSES_S_MAX for since in self._closing.values())

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        try:
            yield from self._pass_on(event)
        except Exception:  # noqa: BLE001 - mitmproxy would log it and leave the client waiting for ever
            _log.exception("connection from %s", self.context.client.peername)
            yield commands.CloseConnection(self.context.client)

    def _pass_on(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, Overdue):
            for stream in list(self.streams.values()):  # one at most: this is HTTP/1
                yield from self.event_to_child(stream, event)
        elif isinstance(event, PeerOverdue):
            now = self._keeper.now()
            for connection in [c for c, since in self._closing.items() if now - since >= BACKEND_CLOSES_S_MAX]:
                del self._closing[connection]
                yield commands.CloseConnection(connection)
            if self.front.overdue(now):
                yield from self.front.give_up()
        elif isinstance(event, events.ConnectionEvent) and event.connection not in self.connections:
            pass  # a backend connection that was forgotten
        else:
            yield from self._without_unheard_hooks(event)

    def _without_unheard_hooks(self, event: events.Event) -> layer.CommandGenerator[None]:
        """A hook that no addon has is over at once: mitmproxy would make a task for it and take a turn of the loop."""
        for command in super()._handle_event(event):
            if isinstance(command, commands.StartHook) and command.blocking and not self._is_heard(command):
                yield from self._without_unheard_hooks(events.HookCompleted(command))
            else:
                yield command

    def _is_heard(self, hook: commands.StartHook) -> bool:
        return isinstance(hook, (HttpRequestHeadersHook, BackendFailedHook)) or self._keeper.hears(hook.name)

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        self.forget_closed()
        stream = self.streams[stream_id] = Stream(_fork(self.context), stream_id, self._keeper)
        yield from self.event_to_child(stream, events.Start())

    def forget_closed(self) -> None:
        """mitmproxy keeps every backend connection of a client connection for ever, and searches all of them for each request."""
        for connection in [c for c in self.connections if isinstance(c, Server) and not c.connected]:
            del self.connections[connection]

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> layer.CommandGenerator[None]:
        context = _fork(self.context)
        server: Connection = Server(address=event.address)
        assert isinstance(server, Server)
        context.server = server
        dial = _Dial(context, self._closing, self._keeper)
        self.connections[server] = dial
        self.waiting_for_establishment[server].append(event)
        yield from self.event_to_child(dial, events.Start())
