import msgspec
import pytest

from dispatcher.userlb.lines import access_line, parse

LOGGED = (
    b'{"id":"x-1","at":1700000000.250,"lane":"lane3","server":"s1","method":"GET","status":200,"end":"--","ms":12,'
    b'"queue_ms":4,"connect_ms":1,"response_ms":6,"bytes":120,"tries":"0","host":"blog.test","path":"/a?b=\\u00e4\\""}'
)


def test_a_line_of_haproxys_becomes_one_of_the_access_log() -> None:
    assert access_line(parse(LOGGED), "blog", "blog/2.7") == {
        "time": "2023-11-14T22:13:20.250Z",
        "id": "x-1",
        "method": "GET",
        "host": "blog.test",
        "path": '/a?b=ä"',
        "status": 200,
        "outcome": "passed",
        "app": "blog",
        "container": "2",
        "life": "blog/2.7",
        "ms": 12,
        "bytes": 120,
        "first_byte_ms": 11,
        "held_ms": 4,
        "via": "lane",
    }


@pytest.mark.parametrize(
    "end, outcome",
    [
        ("--", "passed"),
        ("CD", "client_left"),
        ("cD", "client_left"),
        ("SD", "cut"),
        ("SH", "container_died"),
        ("SC", "container_died"),
        ("sH", "deadline"),
        ("sQ", "deadline"),
        ("PR", "queue_full"),
    ],
)
def test_how_it_ended(end, outcome) -> None:
    assert parse(LOGGED.replace(b'"end":"--"', b'"end":"%s"' % end.encode())).outcome == outcome


@pytest.mark.parametrize(
    "lane, end, status, outcome, via",
    [
        ("lane3", "PR", 503, "queue_full", "lane"),
        ("web", "LR", 429, "too_many_requests", "userlb"),
        ("web", "LR", 413, "body_too_large", "userlb"),
        ("web", "LR", 308, "answered", "userlb"),
        ("web", "PR", 400, "refused", "userlb"),
        ("files", "--", 200, "passed", "files"),
    ],
)
def test_what_no_container_was_asked(lane, end, status, outcome, via) -> None:
    raw = LOGGED.replace(b"lane3", lane.encode()).replace(b'"--"', b'"%s"' % end.encode())
    line = access_line(parse(raw.replace(b'"status":200', b'"status":%d' % status)), "", "")
    assert (line["outcome"], line["via"]) == (outcome, via)


def test_tries() -> None:
    assert access_line(parse(LOGGED.replace(b'"tries":"0"', b'"tries":"+2"')), "", "")["tries"] == 3


def test_what_cannot_be_read() -> None:
    with pytest.raises(msgspec.DecodeError):
        parse(b"{}")
