"""The pure parts of the client; the rest is in test_store.py and test_failures.py."""

import bisect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.cmdb.client import Span, prefix_end


@pytest.mark.parametrize(("prefix", "end"), [("/a/", b"/a0"), ("/", b"0"), ("a", b"b")])
def test_prefix_end(prefix: str, end: bytes) -> None:
    assert prefix_end(prefix) == end


def read(keys: list[bytes], first: bytes, end: bytes, limit: int) -> tuple[list[bytes], int, int]:
    """As etcd would answer: what was found, the requests, and the keys that it visited."""
    span, found, requests, visited = Span(first, end), list[bytes](), 0, 0
    while True:
        requests += 1
        here = keys[bisect.bisect_left(keys, span.first) : bisect.bisect_left(keys, span.bound)]
        page, visited = here[:limit], visited + len(here)
        found += page
        if not span.advance([*page[:1], *page[-1:]], len(here) > limit):
            return found, requests, visited


@given(st.sets(st.binary(max_size=6)), st.integers(1, 5))
def test_every_key_is_read_once(tails: set[bytes], limit: int) -> None:
    keys = sorted(b"/a/" + tail for tail in tails)
    found, _, _ = read([b"/a", *keys, b"/b"], b"/a/", b"/a0", limit)
    assert found == keys


def test_a_large_range_costs_little_more_than_its_size() -> None:
    keys = sorted(f"/a/{kind}/site-{number:06}/1".encode() for kind in ("apps", "rows") for number in range(50_000))
    found, requests, visited = read(keys, b"/a/", b"/a0", 1000)
    assert found == keys
    assert requests < 1.3 * len(keys) / 1000
    assert visited < 25 * len(keys)  # with one end for all pages: 50 times
