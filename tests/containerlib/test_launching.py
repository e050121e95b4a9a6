"""The line to the launcher, with a launcher that says what a real one seldom does; the real one is in test_runtime.py."""

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containerlib import launching
from containerlib.launching import LauncherLine
from tests.plugins.compute import until

ETC = Path("/images/etc-1")


class _Group:
    def entrances(self) -> list[str]:
        return ["/sys/fs/cgroup/7"]


GROUP: Any = _Group()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "launcher.sock"))
        listener.listen()
        yield listener


def _connected(listener: socket.socket, lost: list[str]) -> tuple[LauncherLine, socket.socket]:
    line = LauncherLine(listener.getsockname(), lambda: lost.append("lost"))
    line.connect()
    return line, listener.accept()[0]


async def test_a_launcher_that_does_not_listen_is_named(tmp_path: Path) -> None:
    line = LauncherLine(str(tmp_path / "absent"), lambda: None)
    with pytest.raises(FileNotFoundError):
        line.connect()
    assert not line.connected
    with pytest.raises(ConnectionError, match=r"no launcher listens at .*absent"):
        await line.ask(7, GROUP, ETC, [], mapped=True)


async def test_a_blank_is_asked_for_and_comes_with_its_descriptors(listener: socket.socket) -> None:
    line, launcher = _connected(listener, [])
    with launcher:
        socket.send_fds(launcher, [b'{"blank": 7, "pid": 40}'], [0, 1])
        pid, descriptors = await line.ask(7, GROUP, ETC, [0], mapped=True)
        assert (pid, len(descriptors)) == (40, 2)
        message, given, _, _ = socket.recv_fds(launcher, 4096, 2)
        for fd in given:
            os.close(fd)
        request = {
            "blank": 7,
            "groups": ["/sys/fs/cgroup/7"],
            "etc": "/images/etc-1",
            "mapped": True,
            "own_filter": False,
        }
        for fd in descriptors:
            os.close(fd)
        line.close()
        assert (json.loads(message), len(given)) == (request, 1)


async def test_descriptors_of_a_blank_that_nobody_awaits_any_more_are_closed(listener: socket.socket) -> None:
    line, launcher = _connected(listener, [])
    with launcher:
        socket.send_fds(launcher, [b'{"blank": 7, "pid": 40}'], [0, 1])
        launcher.send(b'{"exited": 40, "status": 9}')
        assert await line.exit_status(40) == 9  # told after the blank, so that was read; a leak fails the test
        line.close()


async def test_who_waits_hears_that_the_launcher_died(listener: socket.socket) -> None:
    lost: list[str] = []
    line, launcher = _connected(listener, lost)
    asyncio.get_running_loop().call_soon(launcher.shutdown, socket.SHUT_RDWR)
    with launcher, pytest.raises(ConnectionError, match="went away"):
        await line.ask(7, GROUP, ETC, [], mapped=False)
    assert (lost, line.connected) == (["lost"], False)
    assert await line.exit_status(40) is None


async def test_an_exit_is_told_once_and_forgotten_when_its_number_is_used_again(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "EXITS_KEPT", 2)
    line, launcher = _connected(listener, [])
    with launcher:
        for pid in (1, 2, 3, 4):
            launcher.send(json.dumps({"exited": pid, "status": pid}).encode())
        launcher.send(b'{"blank": 9, "pid": 3}')
        launcher.send(b'{"exited": 5, "status": 0}')
        assert await line.exit_status(5) == 0
        # 5 made the oldest go, 3 belongs to another process now
        assert [await line.exit_status(pid) for pid in (1, 2, 3, 4)] == [None, None, None, 4]
        assert await line.exit_status(4) is None
        line.close()


async def test_a_launcher_of_other_code_is_told_to_begin_anew_once(
    listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[str] = []
    line, launcher = _connected(listener, lost)
    with launcher:
        asking = asyncio.get_running_loop().create_task(line.ask(7, GROUP, ETC, [], mapped=True))
        launcher.send(b'{"code": 1}')
        with pytest.raises(ConnectionError, match="runs other code than this agent, and begins anew"):
            await asking
        with pytest.raises(ConnectionError, match="begins anew"):
            await line.ask(8, GROUP, ETC, [], mapped=True)
        assert "blank" in json.loads(launcher.recv(4096))
        assert json.loads(launcher.recv(4096)) == {"restart": True}
        launcher.send(b'{"exited": 9, "status": 5}')
        assert await line.exit_status(9) == 5
    await until(lambda: lost == ["lost"])
    line.connect()
    with listener.accept()[0] as launcher:
        launcher.send(b'{"code": 1}')  # it is the agent that is old
        launcher.send(b'{"exited": 10, "status": 5}')
        assert await line.exit_status(10) == 5
        assert "restart the agent" in caplog.text
        launcher.settimeout(0)
        with pytest.raises(BlockingIOError):
            launcher.recv(4096)
        line.close()
