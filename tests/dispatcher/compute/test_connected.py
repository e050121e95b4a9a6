"""Whose connections keep a container awake."""

import pytest

from containerlib.sockdiag import TCP_ESTABLISHED, TcpSocket
from dispatcher.compute import connected

OWN, HOST = "100.96.0.7", "100.96.0.1"


def established(
    local_port: int, remote: str, remote_port: int = 40_000, *, local: str = OWN, uid: int = 0
) -> TcpSocket:
    return TcpSocket(TCP_ESTABLISHED, local, local_port, remote, remote_port, 0, uid)


@pytest.mark.parametrize(
    ("inside", "counts"),
    [
        (established(80, "203.0.113.9"), True),
        (established(80, HOST), True),  # who that is, the host's own sockets tell
        (established(80, "127.0.0.1"), False),
        (established(80, "::1"), False),
        (established(80, OWN), False),
        (established(50_000, "10.0.0.5", 3306), False),  # its database
        (established(50_000, HOST, 80), False),
    ],
)
def test_foreign(inside: TcpSocket, counts: bool) -> None:
    assert bool(connected.foreign([inside], own=OWN, port=80)) is counts


@pytest.mark.parametrize(
    ("outside", "counts"),
    [
        (established(40_000, OWN, 80, local=HOST, uid=1000), True),
        (established(40_000, OWN, 80, local=HOST, uid=999), False),  # a proxy's idle connection
        (established(40_000, OWN, 81, local=HOST, uid=1000), False),
        (established(40_000, "100.96.0.8", 80, local=HOST, uid=1000), False),
    ],
)
def test_by_others_on_host(outside: TcpSocket, counts: bool) -> None:
    assert connected.by_others_on_host([outside], own=OWN, port=80, proxy_uids={999}) is counts
