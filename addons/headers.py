"""What becomes of header fields on their way through. Pure; fields are mitmproxy's pairs of bytes, in order."""

import ipaddress
from collections.abc import Sequence

Fields = tuple[tuple[bytes, bytes], ...]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ROUTE = b"X-FastContainer-Route"  # UserProxy to Web Dispatcher, signed
_OURS = b"x-fastcontainer-"

# RFC 9110 7.6.1, with Proxy-Connection of old browsers, and Expect, which the proxy answers itself.
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authorization proxy-authenticate te trailer upgrade expect".split()
)
_NEVER_BY_CONNECTION = frozenset(b"host content-length transfer-encoding cookie authorization".split())
_FORWARDED = frozenset(
    b"forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-forwarded-server".split()
    + b"x-forwarded-prefix x-real-ip".split()
)
_HTTPOXY = b"proxy"  # CGI programs read it as HTTP_PROXY


def wanted_upgrade(fields: Fields) -> bytes | None:
    """The protocol that the client wants to switch to. h2c is refused silently: it would tunnel requests past the proxy."""
    upgrade = [value for name, value in fields if name.lower() == b"upgrade"]
    if len(upgrade) != 1 or b"upgrade" not in _connection_tokens(fields):
        return None
    protocol = upgrade[0].strip()
    return None if b"," in protocol or protocol.lower().startswith(b"h2") else protocol


def end_to_end(fields: Fields) -> list[tuple[bytes, bytes]]:
    """Without what concerns only one hop, and without our own headers, which no one else may send."""
    dropped = _HOP_BY_HOP | (_connection_tokens(fields) - _NEVER_BY_CONNECTION)
    return [
        (name, value)
        for name, value in fields
        if (lower := name.lower()) not in dropped
        and not lower.replace(b"_", b"-").startswith(_OURS)
        and lower != _HTTPOXY
    ]


def _connection_tokens(fields: Fields) -> frozenset[bytes]:
    return frozenset(
        token.strip().lower() for name, value in fields if name.lower() == b"connection" for token in value.split(b",")
    )


def networks(words: Sequence[str]) -> tuple[Network, ...]:
    """Raises ValueError."""
    return tuple(ipaddress.ip_network(word) for word in words)


def is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    if not trusted:
        return False
    address = ipaddress.ip_address(peer.partition("%")[0])
    return any(address.version == network.version and address in network for network in trusted)


def with_forwarded(
    fields: list[tuple[bytes, bytes]], *, peer: str, host: bytes, trust: bool
) -> list[tuple[bytes, bytes]]:
    """X-Forwarded-* and Forwarded for the container. What a peer that is not trusted says of itself is dropped; the spellings
    with `_` too, because CGI cannot tell them apart."""
    told: dict[bytes, list[bytes]] = {}
    kept = []
    for name, value in fields:
        plain = name.lower().replace(b"_", b"-")
        if plain not in _FORWARDED:
            kept.append((name, value))
        elif trust and b"_" not in name:
            told.setdefault(plain, []).append(value)
    address = peer.encode("ascii", "replace")
    proto = _last(told, b"x-forwarded-proto")
    proto = proto if proto in (b"http", b"https") else b"http"
    original_host = _last(told, b"x-forwarded-host") or host
    element = b'for="[%s]"' % address if b":" in address else b"for=%s" % address
    element += b';host="%s";proto=%s' % (host.replace(b"\\", b"").replace(b'"', b""), proto)
    kept += [
        (b"X-Forwarded-For", b", ".join([*told.get(b"x-forwarded-for", ()), address])),
        (b"X-Forwarded-Proto", proto),
        (b"X-Forwarded-Host", original_host),
        (b"Forwarded", b", ".join([*told.get(b"forwarded", ()), element])),
    ]
    kept += [
        (name, values[-1]) for name, values in told.items() if name in (b"x-forwarded-port", b"x-forwarded-prefix")
    ]
    return kept


def _last(told: dict[bytes, list[bytes]], name: bytes) -> bytes:
    values = told.get(name)
    return values[-1].strip() if values else b""
