"""What we make is what mitmproxy would have made."""

import pytest
from mitmproxy import http
from mitmproxy.net.http import http1

from addons import messages
from addons.messages import Fields

FIELDS = ((b"Host", b"a.test"), (b"X-A", b"1"), (b"x-a", b"2, 3"), (b"Bytes", b"\xff\xe4"), (b"Empty", b""))


@pytest.mark.parametrize("name", ["host", "HOST", b"X-A", "x-a", "Bytes", "empty", "nothing", b"nothing", "caf\udcff"])
def test_fields_answer_as_headers_do(name):
    ours, theirs = Fields(FIELDS), http.Headers(FIELDS)
    assert ours.get_all(name) == theirs.get_all(name)
    assert ours.get(name, "none") == theirs.get(name, "none")
    assert (name in ours) is (name in theirs)


def test_fields_that_a_script_changes():
    ours, theirs = Fields(FIELDS), http.Headers(FIELDS)
    for headers in (ours, theirs):
        assert headers["x-a"] == "1, 2, 3"
        headers["x-a"] = "4"
        del headers["host"]
        headers.add("New", "5")
    assert ours.fields == theirs.fields
    assert "host" not in ours
    assert (ours["x-a"], ours["new"]) == ("4", "5")
    assert list(ours.items()) == list(theirs.items())
    assert bytes(ours) == bytes(theirs)


def test_messages_have_the_same_state():
    lines = [b"POST /a?b HTTP/1.1", b"Host: a.test", b"Content-Length:  3 "]
    theirs = http1.read_request_head(lines)
    ours = messages.request(b"POST", b"/a?b", messages.read_fields(lines))
    assert same(ours, theirs)
    assert http1.assemble_request_head(ours) == http1.assemble_request_head(theirs)
    lines = [b"HTTP/1.0 404 Not Found", b"Set-Cookie: a", b"Set-Cookie: b"]
    answer = http1.read_response_head(lines)
    made = messages.response(404, b"Not Found", messages.read_fields(lines), version=b"HTTP/1.0")
    assert same(made, answer)
    assert same(made.copy(), answer)
    assert http1.assemble_response_head(made) == http1.assemble_response_head(answer)


def same(ours, theirs):
    state, wanted = ours.get_state(), theirs.get_state()
    del state["timestamp_start"], wanted["timestamp_start"]
    return type(ours) is type(theirs) and state == wanted


@pytest.mark.parametrize(
    "line", [b"X", b": x", b"X : y", b"X\r: y", b"X: a\0", b" X: y", b"\tX: y", b"X: a\x7f", b"X\xff: y"]
)
def test_lines_that_are_read_in_two_ways(line):
    with pytest.raises(ValueError):
        messages.read_fields([b"GET / HTTP/1.1", b"Host: a.test", line])
