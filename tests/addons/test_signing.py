import pytest

from addons import signing
from addons.signing import Route

KEY = b"k" * 32
ROUTE = Route("blog", "1", "abc", 1000.0)


def check(header, *, key=KEY, method="GET", host=b"blog.test", now=1000.0, seen=()):
    return signing.verify(key, header, method=method, host=host, now=now, seen=seen)


def test_a_signed_route_is_read():
    assert check(signing.sign(KEY, ROUTE, method="GET", host=b"blog.test"), now=1029.0) == ROUTE


@pytest.mark.parametrize(
    "change",
    [
        {"key": b"x" * 32},
        {"method": "POST"},
        {"host": b"shop.test"},
        {"now": 1031.0},
        {"now": 969.0},
        {"seen": {"abc"}},
    ],
)
def test_refused(change):
    header = signing.sign(KEY, ROUTE, method="GET", host=b"blog.test")
    with pytest.raises(ValueError, match="routing header"):
        check(header, **change)


@pytest.mark.parametrize("edit", ["", "x", " " * 5, "blog 1 abc 1000.000 ", "é", "a" * 5000])
def test_malformed(edit):
    with pytest.raises(ValueError, match="routing header"):
        check(edit)


def test_no_byte_may_change():
    header = signing.sign(KEY, ROUTE, method="GET", host=b"blog.test")
    for i in range(len(header)):
        with pytest.raises(ValueError, match="routing header"):
            check(header[:i] + ("0" if header[i] != "0" else "1") + header[i + 1 :])


def test_a_short_key_is_refused(tmp_path):
    (tmp_path / "key").write_bytes(b"short\n")
    with pytest.raises(ValueError, match="at least 16"):
        signing.read_key(str(tmp_path / "key"))
