import pytest

from addons import headers


def forwarded(fields, *, peer="10.0.0.9", host=b"blog.test", trust=False):
    return dict(headers.with_forwarded(fields, peer=peer, host=host, trust=trust))


def test_what_concerns_one_hop_stays_there():
    fields = (
        (b"Connection", b"close, X-Hop, Host, Content-Length"),
        (b"Keep-Alive", b"5"),
        (b"X-Hop", b"1"),
        (b"Host", b"a"),
        (b"Content-Length", b"5"),
        (b"TE", b"trailers"),
        (b"Proxy", b"evil"),
        (b"x_fastcontainer_route", b"forged"),
        (b"X-FastContainer-Anything", b"forged"),
        (b"Set-Cookie", b"1"),
        (b"set-cookie", b"2"),
    )
    assert headers.end_to_end(fields) == [
        (b"Host", b"a"),
        (b"Content-Length", b"5"),
        (b"Set-Cookie", b"1"),
        (b"set-cookie", b"2"),
    ]


@pytest.mark.parametrize(
    ("peer", "sent", "trust", "expected"),
    [
        ("10.0.0.9", [(b"X-Forwarded-For", b"6.6.6.6")], False, {b"X-Forwarded-For": b"10.0.0.9"}),
        ("10.0.0.9", [(b"x-forwarded-for", b"1.2.3.4")], True, {b"X-Forwarded-For": b"1.2.3.4, 10.0.0.9"}),
        ("10.0.0.9", [(b"X_Forwarded_For", b"6.6.6.6")], True, {b"X-Forwarded-For": b"10.0.0.9"}),
        ("10.0.0.9", [(b"X-Forwarded-Proto", b"https")], True, {b"X-Forwarded-Proto": b"https"}),
        ("10.0.0.9", [(b"X-Forwarded-Proto", b"gopher")], True, {b"X-Forwarded-Proto": b"http"}),
        ("10.0.0.9", [(b"X-Forwarded-Proto", b"https")], False, {b"X-Forwarded-Proto": b"http"}),
        ("10.0.0.9", [(b"X-Forwarded-Host", b"www.test")], True, {b"X-Forwarded-Host": b"www.test"}),
        ("fe80::1", [], False, {b"Forwarded": b'for="[fe80::1]";host="blog.test";proto=http'}),
        (
            "10.0.0.9",
            [(b"Forwarded", b"for=1.2.3.4")],
            True,
            {b"Forwarded": b'for=1.2.3.4, for=10.0.0.9;host="blog.test";proto=http'},
        ),
    ],
)
def test_forwarded(peer, sent, trust, expected):
    told = forwarded(sent, peer=peer, trust=trust)
    assert {name: told[name] for name in expected} == expected
    assert len([name for name in told if name.lower().replace(b"_", b"-") == b"x-forwarded-for"]) == 1


def test_a_quote_in_the_host_does_not_leave_its_place():
    assert forwarded([], host=b'a";for=6.6.6.6;x="')[b"Forwarded"].count(b'"') == 2


def test_trust():
    networks = headers.networks(("10.0.0.0/8", "fd00::/8"))
    assert headers.is_trusted("10.1.2.3", networks)
    assert headers.is_trusted("fd00::1%eth0", networks)
    assert not headers.is_trusted("11.0.0.1", networks)
    assert not headers.is_trusted("10.1.2.3", ())


@pytest.mark.parametrize(
    ("fields", "protocol"),
    [
        (((b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"websocket")), b"websocket"),
        (((b"Upgrade", b"websocket"),), None),
        (((b"Connection", b"upgrade"), (b"Upgrade", b"h2c")), None),
        (((b"Connection", b"upgrade"), (b"Upgrade", b"websocket, h2c")), None),
        (((b"Connection", b"upgrade"), (b"Upgrade", b"a"), (b"Upgrade", b"b")), None),
    ],
)
def test_upgrade(fields, protocol):
    assert headers.wanted_upgrade(fields) == protocol
