"""A connection to a container, on real sockets."""

import asyncio
import socket

import pytest

from addons.backend import CONGESTED_BYTES, Backend, is_ip_address
from tests.fakes.ports import free_port

BODY = bytes(range(256)) * (40 << 10)  # 10 MiB: more than the sockets hold


class Owner:
    def __init__(self):
        self.errors = []
        self.data = bytearray()
        self.congested = []
        self.open, self.end, self.changed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def opened(self, backend, error):
        self.errors.append(error)
        self.open.set()

    def received(self, backend, data):
        self.data += data

    def ended(self, backend):
        self.end.set()

    def congestion_changed(self):
        self.congested.append(self.backend.congested)
        self.changed.set()


@pytest.fixture
async def peer():
    """The owner of a connection that is open, and the other end of it."""
    owner = Owner()
    owner.backend = Backend(None, owner)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        owner.backend.dial(listener.getsockname())
        await asyncio.wait_for(owner.open.wait(), 5)
        other, _ = listener.accept()
    other.setblocking(False)
    assert owner.errors == [None]
    yield owner, other
    owner.backend.abort()
    other.close()


async def read_all(sock):
    data = bytearray()
    while chunk := await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
        data += chunk
    return bytes(data)


async def test_what_the_peer_does_not_take_yet_is_told_and_arrives_before_the_end(peer):
    owner, other = peer
    for start in range(0, len(BODY), 1 << 20):
        owner.backend.write(BODY[start : start + (1 << 20)])
    assert owner.congested == [True]
    owner.backend.half_close()
    assert await asyncio.wait_for(read_all(other), 10) == BODY
    assert owner.congested == [True, False]
    await asyncio.get_running_loop().sock_sendall(other, b"answer")
    other.shutdown(socket.SHUT_WR)
    await asyncio.wait_for(owner.end.wait(), 5)
    assert owner.data == b"answer"


async def test_closing_sends_what_was_written(peer):
    owner, other = peer
    owner.backend.write(BODY)
    owner.backend.close()
    assert await asyncio.wait_for(read_all(other), 10) == BODY
    assert (owner.data, owner.end.is_set()) == (b"", False)


async def test_a_pause_leaves_it_in_the_socket(peer):
    owner, other = peer
    owner.backend.pause(True)
    writing = asyncio.get_running_loop().create_task(asyncio.get_running_loop().sock_sendall(other, BODY), name="peer")
    done, _ = await asyncio.wait([writing], timeout=0.2)
    assert (done, owner.data) == (set(), b"")
    owner.backend.pause(False)
    await asyncio.wait_for(writing, 10)
    other.close()
    await asyncio.wait_for(owner.end.wait(), 10)
    assert owner.data == BODY


async def test_a_peer_that_resets_has_ended(peer):
    owner, other = peer
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    other.close()
    await asyncio.wait_for(owner.end.wait(), 5)
    owner.backend.write(b"x" * 2 * CONGESTED_BYTES)
    owner.backend.half_close()
    owner.backend.close()


async def test_nobody_listens():
    owner = Owner()
    Backend(None, owner).dial(("127.0.0.1", free_port()))
    await asyncio.wait_for(owner.open.wait(), 5)
    assert owner.errors == ["Connection refused"]


async def test_an_attempt_that_is_given_up():
    owner = Owner()
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):  # there is room for one; further ones wait for it
            backends = [Backend(None, owner) for _ in range(3)]
            for backend in backends:
                backend.dial(full.getsockname())
            waiting = [backend for backend in backends if not backend.is_open]
            assert waiting
            waiting[0].refuse("enough")
            for backend in backends:
                backend.abort()
    assert owner.errors[-1] == "enough"


def test_addresses():
    assert is_ip_address("10.0.0.1") and is_ip_address("::1")
    assert not is_ip_address("compute-2.example.com")
