"""The routing header between a UserProxy and the Web Dispatcher of another Compute: which container a request is for, signed
with the key that they share. Pure but for the key file.

The signature covers time, method and host as well, so that a header that leaked serves for nothing else and not for long.
"""

import hashlib
import hmac
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

VALID_S = 30.0  # how far the clocks of two hosts may differ, and how long a header is good for
KEY_BYTES_MIN = 16
_HEADER_CHARACTERS_MAX = 400


class Route(NamedTuple):
    app: str
    container: str
    request_id: str
    at: float


def read_key(path: str) -> bytes:
    """Raises OSError, or ValueError for a key that is too short to be one."""
    key = Path(path).read_bytes().strip()
    if len(key) < KEY_BYTES_MIN:
        raise ValueError(f"{path} holds {len(key)} bytes; a routing key has at least {KEY_BYTES_MIN}")
    return key


def sign(key: bytes, route: Route, *, method: str, host: bytes) -> str:
    told = f"{route.app} {route.container} {route.request_id} {route.at:.3f}"
    return f"{told} {_signature(key, told, method, host)}"


def verify(key: bytes, header: str, *, method: str, host: bytes, now: float, seen: Container[str] = ()) -> Route:
    """Raises ValueError. `seen` holds the request ids of the last VALID_S seconds: each is good once."""
    told, _, signature = header.rpartition(" ")
    if len(header) > _HEADER_CHARACTERS_MAX or not header.isascii():
        raise ValueError("the routing header is malformed")
    if not hmac.compare_digest(signature, _signature(key, told, method, host)):
        raise ValueError("the routing header is not signed with our key")
    app, container, request_id, at = told.split(" ")
    if abs(now - float(at)) > VALID_S:
        raise ValueError(f"the routing header is {now - float(at):.0f} s old")
    if request_id in seen:
        raise ValueError("the routing header was used before")
    return Route(app, container, request_id, float(at))


def _signature(key: bytes, told: str, method: str, host: bytes) -> str:
    text = b"\n".join((told.encode(), method.encode("utf-8", "surrogateescape"), host))
    return hmac.new(key, text, hashlib.sha256).hexdigest()
