"""Requests, responses and headers of mitmproxy's, made without what it does for people who write scripts.

Its constructors compare the type of each field with its annotation, which takes longer than all that we do to a message, and its
headers convert and search all fields for each question. These are the same classes with the same attributes.

Pinned to mitmproxy 12.2; tests/addons/test_messages.py compares.
"""

import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

from mitmproxy import http

Field = tuple[bytes, bytes]

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# What some servers take for the end of a line or of text (bare CR, NUL), and a line that goes on with the one before.
_NOT_IN_A_HEAD = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|(?:\n|\A)[ \t]")


class Fields(http.Headers):
    """Remembers the lower-case names of its fields until there are others."""

    _named: tuple[Field, ...] | None = None
    _lower: Sequence[bytes] = ()

    def __init__(self, fields: Iterable[Field] = ()) -> None:
        self.fields = tuple(fields)

    @property
    def names(self) -> Sequence[bytes]:
        fields = self.fields
        if self._named is not fields:
            self._named, self._lower = fields, [name.lower() for name, _ in fields]
        return self._lower

    def values_of(self, name: bytes) -> list[bytes]:
        """`name` in lower case."""
        names = self.names
        if name not in names:
            return []
        return [value for lower, (_, value) in zip(names, self.fields, strict=True) if lower == name]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str | bytes) and _lower_name(key) in self.names

    def get_all(self, name: str | bytes) -> list[str]:
        return [value.decode("utf-8", "surrogateescape") for value in self.values_of(_lower_name(name))]

    def get(self, key: str | bytes, default: Any = None) -> Any:
        values = self.get_all(key)
        return ", ".join(values) if values else default


def _lower_name(name: str | bytes) -> bytes:
    return (name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")).lower()


def read_fields(lines: Sequence[bytes]) -> Fields:
    """Of a head, whose first line is left out. Raises ValueError for what two servers might read differently."""
    if _NOT_IN_A_HEAD.search(b"\n".join(lines)):
        raise ValueError("a control character or a continued line in the head")
    fields = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise ValueError("a line that is no header field")
        fields.append((name, value.strip()))
    return Fields(fields)


def request(
    method: bytes, path: bytes, fields: Iterable[Field], *, version: bytes = b"HTTP/1.1", scheme: bytes = b""
) -> http.Request:
    data = http.RequestData.__new__(http.RequestData)
    data.__dict__.update(
        host="", port=0, method=method, scheme=scheme, authority=b"", path=path, http_version=version,
        headers=fields if isinstance(fields, Fields) else Fields(fields), content=None, trailers=None,
        timestamp_start=time.time(), timestamp_end=None,
    )  # fmt: skip
    made = http.Request.__new__(http.Request)
    made.data = data
    return made


def response(
    status: int, reason: bytes, fields: Iterable[Field], *, version: bytes = b"HTTP/1.1", content: bytes | None = None
) -> http.Response:
    data = http.ResponseData.__new__(http.ResponseData)
    data.__dict__.update(
        http_version=version, status_code=status, reason=reason,
        headers=fields if isinstance(fields, Fields) else Fields(fields), content=content, trailers=None,
        timestamp_start=time.time(), timestamp_end=None,
    )  # fmt: skip
    made = http.Response.__new__(http.Response)
    made.data = data
    return made
