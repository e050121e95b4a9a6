"""The agent's socket: who is there, what he may say, what becomes of one who does not listen."""

import asyncio
import os
import pwd
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dispatcher.compute import protocol, server
from dispatcher.compute.protocol import (
    Attach,
    Done,
    Ensure,
    Enter,
    FromAgent,
    Gone,
    Refused,
    Start,
    Stop,
    Synced,
    ToAgent,
    Traffic,
)
from dispatcher.compute.server import Peer, Server
from dispatcher.problems import Code
from tests.plugins.compute import until


class Lab:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[tuple[int, ToAgent]] = []
        self.left: list[int] = []
        self.server = Server(str(path), pwd.getpwuid(os.getuid()).pw_name, self._said, self._left)

    def _said(self, peer: Peer, message: ToAgent) -> None:
        self.said.append((peer.number, message))
        if isinstance(message, Stop):
            peer.send(Done(message.id))

    def _left(self, peer: Peer) -> None:
        self.left.append(peer.number)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path / "s")
    if os.getuid():
        pytest.MonkeyPatch().setattr(os, "chown", lambda *_: None)
    await lab.server.start()
    yield lab
    await lab.server.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, lab: Lab) -> "Client":
        return cls(*await asyncio.open_unix_connection(lab.path, limit=1 << 20))

    def say(self, *messages: ToAgent) -> None:
        for message in messages:
            self.writer.write(protocol.encode(message))

    async def hear(self) -> FromAgent | None:
        """None: the connection ended."""
        async with asyncio.timeout(5):
            line = await self.reader.readline()
        return protocol.decode_from_agent(line) if line else None

    def close(self) -> None:
        self.writer.close()


async def test_the_socket_is_roots_and_the_proxies_groups(lab: Lab) -> None:
    info = lab.path.stat()
    assert stat.S_IMODE(info.st_mode) == 0o660
    if os.getuid() == 0:
        assert (info.st_uid, info.st_gid) == (0, 0)


async def test_what_a_predecessor_left_is_replaced_and_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    lab = Lab(tmp_path / "s")
    await lab.server.start()
    client = await Client.of(lab)
    client.say(Stop(1, "blog"))
    assert await client.hear() == Done(1)
    await lab.server.close()
    assert await client.hear() is None
    client.close()
    assert not lab.path.exists()


async def test_everything_is_heard_in_order(lab: Lab) -> None:
    client = await Client.of(lab)
    messages: list[ToAgent] = [
        Attach("userproxy"),
        Ensure(1, "blog", "1", 3.0),
        Traffic({"blog/1.1": 2}),
        Stop(7, "blog"),
    ]
    client.say(*messages)
    assert await client.hear() == Done(7)
    assert [message for _, message in lab.said] == messages
    client.close()
    await until(lambda: lab.left)
    assert lab.left == [lab.said[0][0]]


async def test_only_those_who_attached_are_told(lab: Lab) -> None:
    proxy, person = await Client.of(lab), await Client.of(lab)
    proxy.say(Attach("userproxy"))
    person.say(Stop(1, "blog"))
    assert await person.hear() == Done(1)
    await until(lambda: lab.server.proxies)
    lab.server.publish(Gone("blog", "1", 1))
    assert await proxy.hear() == Gone("blog", "1", 1)
    assert lab.server.proxy_uids == {os.getuid()}
    proxy.close()
    await until(lambda: not lab.server.proxies)
    person.say(Stop(2, "blog"))
    assert await person.hear() == Done(2)
    person.close()


@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"hello\n", b"[]\n", b'{"type": "attach"}\n', b'{"type": "shutdown"}\n', b'{"type": "live"}\n',
        b'{"type":"traffic","in_flight":{"a":-1}}\n', b"\xff\xff\n", b"[" * 100_000 + b"\n", b"x" * (1 << 21),
    ],
    ids=range(10),
)  # fmt: skip
async def test_a_line_that_does_not_parse_ends_the_connection_and_only_this_one(lab: Lab, line: bytes) -> None:
    good, bad = await Client.of(lab), await Client.of(lab)
    bad.writer.write(line)
    try:
        heard = await bad.hear()
    except ConnectionResetError:  # it had not read all of it
        heard = None
    assert heard is None
    bad.close()
    good.say(Stop(1, "blog"))
    assert await good.hear() == Done(1)
    good.close()


def connected_as(uid: int, path: Path) -> socket.socket:
    """Raises what connect() raised. The kernel keeps whose connection it is from the moment that it is made."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            with socket.socket(socket.AF_UNIX) as connection:
                error = connection.connect_ex(str(path))
                socket.send_fds(theirs, [error.to_bytes(2)], [connection.fileno()])
            os._exit(0)
        answer, descriptors, _, _ = socket.recv_fds(ours, 2, 1)
        os.waitpid(child, 0)
    connection = socket.socket(fileno=descriptors[0])
    if error := int.from_bytes(answer):
        connection.close()
        raise OSError(error, os.strerror(error))
    return connection


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Lab]:
    """Its proxies are user nobody's, and everybody may look into its directory."""
    lab = Lab(tmp_path / "s")
    lab.server = Server(str(lab.path), "nobody", lab._said, lab._left)
    await lab.server.start()
    for path in (tmp_path, *tmp_path.parents[:-2]):
        path.chmod(0o755)
    yield lab
    await lab.server.close()


@pytest.mark.system
@pytest.mark.parametrize("message", [Start(5, "blog"), Stop(5, "blog"), Enter(5, "blog")])
async def test_a_proxys_user_may_not_say_what_is_roots(guarded: Lab, message: ToAgent) -> None:
    connection = connected_as(65534, guarded.path)
    client = Client(*await asyncio.open_unix_connection(sock=connection))
    client.say(message)
    assert await client.hear() == Refused(
        5, Code.FORBIDDEN, "user 65534 may not ask this of the agent", "run it as root"
    )
    assert await client.hear() is None
    assert guarded.said == []
    client.close()


@pytest.mark.system
async def test_a_proxys_user_may_say_what_is_a_proxys(guarded: Lab) -> None:
    client = Client(*await asyncio.open_unix_connection(sock=connected_as(65534, guarded.path)))
    messages: list[ToAgent] = [Attach("userproxy"), Ensure(1, "blog", "1", 3.0), Traffic({})]
    client.say(*messages)
    await until(lambda: len(guarded.said) == 3)
    assert [message for _, message in guarded.said] == messages
    assert guarded.server.proxy_uids == {65534}
    client.close()


@pytest.mark.system
async def test_somebody_elses_user_does_not_even_reach_the_socket(guarded: Lab) -> None:
    with pytest.raises(PermissionError):
        connected_as(4711, guarded.path)


async def test_somebody_who_does_not_read_is_cut_off_and_nobody_waits_for_him(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "WRITE_BYTES_MAX", 1 << 16)
    slow, quick = await Client.of(lab), await Client.of(lab)
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    slow.say(Attach("userproxy"))
    quick.say(Attach("webdispatcher"))
    await until(lambda: len(lab.server.proxies) == 2)
    for number in range(200):
        lab.server.publish(Gone("blog", "1", number, "x" * 5000))
        assert await quick.hear() == Gone("blog", "1", number, "x" * 5000)
    await until(lambda: len(lab.server.proxies) == 1)
    lab.server.publish(Synced("here"))
    assert await quick.hear() == Synced("here")
    slow.close()
    quick.close()


async def test_a_proxys_user_that_does_not_exist_gives_its_rights_to_nobody(tmp_path: Path) -> None:
    unknown = Server(str(tmp_path / "s"), "no-such-user", lambda *_: None, lambda *_: None)
    assert (unknown._proxy_uid, unknown._proxy_gid) == (0, 0)
