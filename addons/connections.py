"""HTTP/1 on both sides of the proxy: mitmproxy's parsers with limits, strict reading and our own refusals.

mitmproxy leaves a head unbounded in size and time, answers what it cannot parse with pages of its own, takes an interim response
(103) for the final one and stops dead at a trailer. Pinned to mitmproxy 12.2; tests/addons/test_conformance.py notices a change.
"""

import re
from typing import Protocol

import h11
from h11._readers import ChunkedReader
from mitmproxy import http
from mitmproxy.connection import Client, Connection, ConnectionState
from mitmproxy.net.http import http1
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestHeaders,
    RequestProtocolError,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server, TBodyReader, make_body_reader

from addons import messages

REQUEST_HEAD_BYTES_MAX = 32 << 10
REQUEST_FIELDS_MAX = 128
RESPONSE_HEAD_BYTES_MAX = 128 << 10
INTERIM_RESPONSES_MAX = 32  # 100, 102, 103 before the final one
HEAD_S_MAX = 10.0  # from a head's first byte to its last
IDLE_S_MAX = 75.0  # of a connection between two requests, and before the first
BACKEND_CLOSES_S_MAX = 0.05
LINGER_S_MAX = 2.0  # how long what a refused client still sends is read, so that it gets to read our answer
LINGER_BYTES_MAX = 1 << 20
AHEAD_BYTES_MAX = 64 << 10  # of further requests that a client sends without waiting for the answer
BODY_BYTES_MAX = (1 << 63) - 1  # a length beyond it is another one to a server that counts in 64 bits
CHUNK_LINE_BYTES_MAX = 16 << 10  # chunk header or trailer section

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9]\d\d)(?: +(.*?)\s*)?")


class Surroundings(Protocol):
    def now(self) -> float: ...

    def check_later(self, client: Client, delay_s: float) -> None:
        """Look then whether somebody on this client's connection is overdue."""

    def refusal(self, client: Client, request: http.Request | None, status: int, detail: str) -> http.Response:
        """The answer to what does not parse; it is logged and counted."""


class Refusal(ValueError):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class _WithoutTrailers(ChunkedReader):
    def __call__(self, buf: h11._receivebuffer.ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        event = super().__call__(buf)
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event


def _body_reader(expected_size: int | None) -> TBodyReader:
    return _WithoutTrailers() if expected_size is None else make_body_reader(expected_size)


class _Limited(Http1Connection):
    """Shared by both sides: a body is passed on as it comes, and nothing between its chunks may grow without end."""

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        assert self.stream_id is not None
        while True:
            try:
                closed = isinstance(event, events.ConnectionClosed)
                h11_event: h11.Data | h11.EndOfMessage | None
                h11_event = self.body_reader.read_eof() if closed else self.body_reader(self.buf)
                if h11_event is None and len(self.buf) > CHUNK_LINE_BYTES_MAX:
                    raise h11.RemoteProtocolError("a chunk header or trailer without end")
            except h11.ProtocolError as error:
                yield from self.body_broke(str(error), closed)
                return
            if h11_event is None:
                return
            if isinstance(h11_event, h11.Data):
                if h11_event.data:
                    yield ReceiveHttp(self.ReceiveData(self.stream_id, bytes(h11_event.data)))
            else:
                yield ReceiveHttp(self.ReceiveEndOfMessage(self.stream_id))
                is_request = isinstance(self, Http1Server)
                yield from self.mark_done(request=is_request, response=not is_request)
                return

    def body_broke(self, why: str, closed: bool) -> layer.CommandGenerator[None]:
        raise NotImplementedError


class Front(_Limited, Http1Server):
    """The client's side."""

    def __init__(self, context: Context, surroundings: Surroundings) -> None:
        super().__init__(context)
        self._surroundings = surroundings
        self.head_since: float | None = None
        self.idle_since: float | None = surroundings.now()
        self.linger_since: float | None = None
        self._lingered_bytes = 0

    def overdue(self, now: float) -> bool:
        """Whether the client took too long over what it has to do next; `give_up` then ends it."""
        return (
            (self.head_since is not None and now - self.head_since > HEAD_S_MAX)
            or (self.idle_since is not None and now - self.idle_since > IDLE_S_MAX)
            or (self.linger_since is not None and now - self.linger_since > LINGER_S_MAX)
        )

    def give_up(self) -> layer.CommandGenerator[None]:
        if self.head_since is not None:
            yield from self.refuse(Refusal(408, "The request's headers took too long to arrive."))
        else:
            self.idle_since = self.linger_since = None
            yield commands.CloseConnection(self.conn)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, events.ConnectionClosed):
            self.head_since = self.idle_since = None
            yield commands.CloseConnection(self.conn)
            return
        try:
            lines = self._head_lines()
            if lines is None:
                return
            self.request = None
            self.request, expected_size = read_request(lines)
        except Refusal as refusal:
            yield from self.refuse(refusal)
            return
        self.head_since = self.idle_since = None
        yield ReceiveHttp(RequestHeaders(self.stream_id, self.request, expected_size == 0))
        self.body_reader = _body_reader(expected_size)
        self.state = self.read_body
        yield from self.state(event)

    def _head_lines(self) -> list[bytes] | None:
        """None: not all there yet. Empty lines before a request are skipped (RFC 9112 2.2)."""
        while (lines := self.buf.maybe_extract_lines()) is not None:
            if lines:
                if sum(map(len, lines)) + 2 * len(lines) > REQUEST_HEAD_BYTES_MAX or len(lines) > REQUEST_FIELDS_MAX:
                    raise Refusal(431, "The request's headers are too large.")
                return [bytes(line) for line in lines]
        if len(self.buf) > REQUEST_HEAD_BYTES_MAX:
            raise Refusal(431, "The request's headers are too large.")
        if self.buf and self.head_since is None:
            self.head_since, self.idle_since = self._surroundings.now(), None
        return None

    def refuse(self, refusal: Refusal) -> layer.CommandGenerator[None]:
        assert isinstance(self.conn, Client)
        self.head_since = self.idle_since = None
        if self.response is None and self.conn.state & ConnectionState.CAN_WRITE:
            response = self._surroundings.refusal(self.conn, self.request, refusal.status, str(refusal))
            yield commands.SendData(self.conn, http1.assemble_response(response))  # type: ignore[no-untyped-call]
        yield from self.half_close()

    def half_close(self) -> layer.CommandGenerator[None]:
        """Closing with unread data would reset the connection and take our answer along: first only our half."""
        yield commands.CloseTcpConnection(self.conn, half_close=True)
        self.linger_since = self._surroundings.now()
        self.state = self.linger

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseProtocolError) and event.code is ErrorCode.CANCEL:
            yield from self.half_close()
        else:
            yield from super().send(event)

    def linger(self, event: events.Event) -> layer.CommandGenerator[None]:
        self._lingered_bytes += len(self.buf)
        self.buf.maybe_extract_at_most(len(self.buf))
        if isinstance(event, events.ConnectionClosed) or self._lingered_bytes > LINGER_BYTES_MAX:
            self.linger_since = None
            yield commands.CloseConnection(self.conn)

    def wait(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield from super().wait(event)
        if len(self.buf) > AHEAD_BYTES_MAX:
            yield commands.CloseConnection(self.conn)

    def body_broke(self, why: str, closed: bool) -> layer.CommandGenerator[None]:
        code = ErrorCode.CLIENT_DISCONNECTED if closed else ErrorCode.GENERIC_CLIENT_ERROR
        if closed:
            yield commands.CloseConnection(self.conn)
        else:
            yield from self.refuse(Refusal(400, "The request's body is malformed."))
        yield ReceiveHttp(RequestProtocolError(self.stream_id, why, code))

    def mark_done(self, *, request: bool = False, response: bool = False) -> layer.CommandGenerator[None]:
        if (self.request_done or request) and (self.response_done or response):
            self.idle_since = self._surroundings.now()  # before the next head, which may be in the buffer already
        yield from super().mark_done(request=request, response=response)
        if self.state == self.passthrough or self.state == self.done:
            self.idle_since = None


class Back(_Limited, Http1Client):
    """The container's side, one connection for each request. What runs there is not trusted either.

    The container is left to close first (it was told `Connection: close`): the side that does keeps the port for a minute, and
    ours would be used up by a few hundred requests a second. `closing` has the connections that wait for that, and since when.
    """

    def __init__(self, context: Context, closing: dict[Connection, float], surroundings: Surroundings) -> None:
        super().__init__(context)
        self._closing = closing
        self._surroundings = surroundings
        self._interim_responses = 0

    def mark_done(self, *, request: bool = False, response: bool = False) -> layer.CommandGenerator[None]:
        for command in super().mark_done(request=request, response=response):
            if isinstance(command, commands.CloseConnection) and self.conn.state is ConnectionState.OPEN:
                self._closing[self.conn] = self._surroundings.now()
                self._surroundings.check_later(self.context.client, BACKEND_CLOSES_S_MAX)
            else:
                yield command

    def done(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        self._closing.pop(self.conn, None)
        yield commands.CloseConnection(self.conn)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, events.ConnectionClosed):
            if self.conn.state & ConnectionState.CAN_WRITE:
                yield commands.CloseConnection(self.conn)
            if self.stream_id:
                error = ErrorCode.GENERIC_SERVER_ERROR
                yield ReceiveHttp(ResponseProtocolError(self.stream_id, "closed before its response", error))
            return
        if self.request is None:
            yield commands.CloseConnection(self.conn)  # it speaks without being asked
            return
        assert self.stream_id is not None
        try:
            lines = self.buf.maybe_extract_lines()
            if (len(self.buf) if lines is None else sum(map(len, lines))) > RESPONSE_HEAD_BYTES_MAX:
                raise ValueError("its headers are too large")
            if lines is None:
                return
            self.response, expected_size = read_response([bytes(line) for line in lines], self.request)
            interim = 100 <= self.response.status_code < 200 and self.response.status_code != 101
            self._interim_responses += interim
            if self._interim_responses > INTERIM_RESPONSES_MAX:
                raise ValueError("it never comes to its final response")
        except ValueError as error:
            yield commands.CloseConnection(self.conn)
            failed = ErrorCode.RESPONSE_VALIDATION_FAILED
            yield ReceiveHttp(ResponseProtocolError(self.stream_id, f"malformed response: {error}", failed))
            return
        if interim:
            yield from self.read_headers(event)  # an interim response; the final one follows
            return
        yield ReceiveHttp(ResponseHeaders(self.stream_id, self.response, expected_size == 0))
        self.body_reader = _body_reader(expected_size)
        self.state = self.read_body
        yield from self.state(event)

    def body_broke(self, why: str, closed: bool) -> layer.CommandGenerator[None]:
        assert self.stream_id is not None
        yield commands.CloseConnection(self.conn)
        yield ReceiveHttp(ResponseProtocolError(self.stream_id, why, ErrorCode.GENERIC_SERVER_ERROR))


def read_request(lines: list[bytes]) -> tuple[http.Request, int | None]:
    """The request and the size of its body (None: chunked). Whatever two servers might read differently is refused."""
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        if lines[0].rpartition(b" ")[2].startswith(b"HTTP/") and not lines[0].endswith((b"/1.0", b"/1.1")):
            raise Refusal(505, "Only HTTP/1.1 is spoken here.")
        raise Refusal(400, "The request line is malformed.")
    method, target, minor = match.groups()
    if method == b"CONNECT":
        raise Refusal(501, "This is not a forward proxy.")
    try:
        fields = messages.read_fields(lines)
        request = messages.request(method, target, fields, version=b"HTTP/1." + minor)
        expected_size: int | None = 0
        if b"content-length" in fields.names or b"transfer-encoding" in fields.names:
            validate_headers(request)
            expected_size = http1.expected_http_body_size(request)
        authority = b""
        if not target.startswith(b"/") and target != b"*":
            _, _, scheme, authority, path = _read_target(target)
            request.data.scheme, request.data.path = scheme, path
    except ValueError:
        raise Refusal(400, "The request's headers are malformed.") from None
    if expected_size is not None and expected_size > BODY_BYTES_MAX:
        raise Refusal(400, "The request's headers are malformed.")
    hosts = fields.values_of(b"host")
    if len(hosts) > 1 or (not hosts and minor == b"1"):
        raise Refusal(400, "The request needs exactly one Host header.")
    if authority and (not hosts or authority.lower() != hosts[0].lower()):
        raise Refusal(400, "The request's target and its Host header differ.")
    return request, expected_size


def _read_target(target: bytes) -> tuple[str, int, bytes, bytes, bytes]:
    """Of absolute form. Raises ValueError."""
    read = http1.read_request_head([b"GET " + target + b" HTTP/1.1"])
    return read.data.host, read.data.port, read.data.scheme, read.data.authority, read.data.path


def read_response(lines: list[bytes], request: http.Request) -> tuple[http.Response, int | None]:
    """Raises ValueError."""
    if not lines or (match := _STATUS_LINE.fullmatch(lines[0])) is None:
        raise ValueError("no HTTP/1 status line")
    version, status, reason = match.groups(b"")
    response = messages.response(int(status), reason, messages.read_fields(lines), version=version)
    validate_headers(response)
    if response.status_code == 101 and "upgrade" not in request.headers:
        raise ValueError("it switches protocols unasked")
    return response, http1.expected_http_body_size(request, response)
