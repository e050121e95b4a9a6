"""Real sockets on loopback, seen through the kernel's own list."""

import os
import socket
from collections.abc import Iterator

import pytest

from containerlib.sockdiag import TCP_ESTABLISHED, TCP_LISTEN, SocketDiag, TcpSocket


@pytest.fixture
def diag() -> Iterator[SocketDiag]:
    diag = SocketDiag()
    yield diag
    diag.close()


def listening_on(diag: SocketDiag, port: int) -> list[TcpSocket]:
    return [found for found in diag.listening() if found.local_port == port]


@pytest.mark.parametrize(
    ("family", "address", "seen_as", "loopback_only"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1", True),
        (socket.AF_INET, "127.1.2.3", "127.1.2.3", True),
        (socket.AF_INET, "0.0.0.0", "0.0.0.0", False),
        (socket.AF_INET6, "::1", "::1", True),
        (socket.AF_INET6, "::", "::", False),
    ],
)
def test_a_listening_socket(
    diag: SocketDiag, family: socket.AddressFamily, address: str, seen_as: str, loopback_only: bool
) -> None:
    with socket.create_server((address, 0), family=family, backlog=7) as server:
        port = server.getsockname()[1]
        assert listening_on(diag, port) == [TcpSocket(TCP_LISTEN, seen_as, port, found_any(family), 0, 7, os.getuid())]
        assert listening_on(diag, port)[0].is_loopback_only is loopback_only
    assert listening_on(diag, port) == []


def found_any(family: socket.AddressFamily) -> str:
    return "0.0.0.0" if family == socket.AF_INET else "::"


def test_a_socket_that_is_bound_but_does_not_listen_is_not_seen(diag: SocketDiag) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert listening_on(diag, bound.getsockname()[1]) == []


def test_both_ends_of_a_connection(diag: SocketDiag) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0],
    ):
        ends = (server.getsockname()[1], client.getsockname()[1])
        found = [each for each in diag.established() if {each.local_port, each.remote_port} == set(ends)]
        assert {(each.local_port, each.remote_port) for each in found} == {ends, ends[::-1]}
        assert {each.state for each in found} == {TCP_ESTABLISHED}
        assert {each.uid for each in found} == {os.getuid()}


def test_an_ipv4_client_of_an_ipv6_server_is_told_by_its_ipv4_address(diag: SocketDiag) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            remotes = [each.remote for each in diag.established() if each.local_port == port]
            assert remotes == ["127.0.0.1"]


def test_more_sockets_than_one_answer_holds(diag: SocketDiag) -> None:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(300)]
    try:
        ports = {server.getsockname()[1] for server in servers}
        assert ports <= {found.local_port for found in diag.listening()}
    finally:
        for server in servers:
            server.close()
