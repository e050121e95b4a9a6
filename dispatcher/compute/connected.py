"""Whether somebody uses a container without a proxy: the connections that say so, and those that do not. Pure.

What the container itself connects to (a database) does not count, nor what a proxy keeps open for later.
"""

from collections.abc import Collection, Iterable

from containerlib.sockdiag import TcpSocket


def foreign(inside: Iterable[TcpSocket], *, own: str, port: int) -> list[TcpSocket]:
    """Established connections to the container's port that come neither from its own loopback nor from its own address."""
    peers = (found for found in inside if found.local_port == port)
    return [
        found
        for found in peers
        if found.remote != own and not found.remote.startswith("127.") and found.remote != "::1"
    ]


def by_others_on_host(outside: Iterable[TcpSocket], *, own: str, port: int, proxy_uids: Collection[int]) -> bool:
    """Of the host's own sockets: one to the container that belongs to no proxy's user."""
    return any(found.remote == own and found.remote_port == port and found.uid not in proxy_uids for found in outside)
