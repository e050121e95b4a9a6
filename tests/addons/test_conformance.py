"""addons/streams.py and addons/connections.py are built on what mitmproxy does not promise. If one of these fails after an upgrade,
read both files against the new sources before anything is changed here."""

import hashlib
import inspect
from importlib.metadata import version

import pytest
from mitmproxy.proxy import layer, server
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream
from mitmproxy.proxy.layers.http._http1 import Http1Connection, Http1Server

from addons import connections, handler, streams


def test_version():
    assert version("mitmproxy").startswith("12.2.")


@pytest.mark.parametrize(
    ("ours", "theirs", "methods"),
    [
        (
            streams.Stream,
            HttpStream,
            "handle_event _handle_event state_wait_for_request_headers make_server_connection state_stream_request_body "
            "state_stream_response_body state_wait_for_response_headers flow_done handle_protocol_error",
        ),
        (streams.Layer, HttpLayer, "_handle_event make_stream get_connection"),
        (connections.Front, Http1Server, "read_headers read_body wait mark_done send"),
        (connections.Back, Http1Connection, "read_headers read_body"),
        (handler.PatientHandler, server.ConnectionHandler, "server_event handle_connection"),
    ],
)
def test_what_we_replace_is_there(ours, theirs, methods):
    for method in methods.split():
        assert method in ours.__dict__ or any(method in base.__dict__ for base in ours.__mro__[1:3])
        mine, original = inspect.signature(getattr(ours, method)), inspect.signature(getattr(theirs, method))
        assert list(mine.parameters)[1:] == list(original.parameters)[1:] or method in ("_handle_event", "handle_event")


# What we call or rely on inside. The digest is of the source as of 12.2.3.
RELIED_ON = {
    HttpStream.send_response: "d581bc106152e369",
    HttpStream.check_killed: "368cad352d1e82b6",
    HttpStream.state_stream_request_body: "c98f7f715cef7cfa",
    HttpStream.handle_protocol_error: "59fc3b2eeeabf63a",
    HttpStream.passthrough: "a6df32aba1ae251a",
    HttpLayer.event_to_child: "1095f6e1581d1780",
    HttpLayer.register_connection: "deed6282affc431f",
    layer.Layer.handle_event: "fd88b0fb09ceddbb",
    Http1Connection.mark_done: "dc5ed395ce4f0763",
    Http1Server.send: "cc218a1337c0f5cf",
    server.ConnectionHandler.handle_client: "01f1b7cc991c4711",
    server.ConnectionHandler.close_connection: "c0d10cc05dd65b80",
    server.ConnectionHandler.hook_task: "9ac7970160526268",
    server.ConnectionHandler.open_connection: "5e0b3cbaf7a4030a",
    server.ConnectionHandler.handle_connection: "95c3f93e9824e527",
    server.ConnectionHandler.server_event: "a2b42657ebe8bf6d",
}


@pytest.mark.parametrize("function", RELIED_ON, ids=lambda function: function.__qualname__)
def test_what_we_rely_on_is_as_it_was(function):
    assert digest(function) == RELIED_ON[function]


def digest(function: object) -> str:
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]  # type: ignore[arg-type]
