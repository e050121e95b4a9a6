"""Questions about real processes."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from containerlib import process

PROGRAM = """
import os, signal, sys
if sys.argv[1] == "ignore": signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] == "catch": signal.signal(signal.SIGTERM, lambda *_: None)
if sys.argv[1].startswith("parent"):
    if (child := os.fork()) == 0:
        if sys.argv[1] == "parent-ignore": signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(1, b"r"); signal.pause(); os._exit(0)
    signal.signal(signal.SIGTERM, lambda *_: (os.kill(child, 9), os._exit(0)))
else:
    os.write(1, b"r")
signal.pause()
"""

Start = Callable[[str], int]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def start(kind: str) -> int:
        child = subprocess.Popen([sys.executable, "-SI", "-c", PROGRAM, kind], stdout=subprocess.PIPE)
        running.append(child)
        assert child.stdout is not None
        assert child.stdout.read(1) == b"r"
        return child.pid

    yield start
    for child in running:
        for grandchild in process.children(child.pid):
            os.kill(grandchild, signal.SIGKILL)
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


@pytest.mark.parametrize(
    ("kind", "ignores", "catches"), [("default", False, False), ("ignore", True, False), ("catch", False, True)]
)
def test_dispositions(start: Start, kind: str, ignores: bool, catches: bool) -> None:
    found = process.dispositions(start(kind))
    assert found is not None
    assert (found.ignores(signal.SIGTERM), found.catches(signal.SIGTERM)) == (ignores, catches)


@pytest.mark.parametrize(
    ("kind", "init", "pointless"),
    [
        # As PID 1 of a container the kernel spares it what it does not catch.
        ("default", False, True),
        ("ignore", False, True),
        ("catch", False, False),
        # Under an init its child is asked, which has no such privilege.
        ("parent", True, False),
        ("parent-ignore", True, True),
        ("default", True, False),  # no child yet: the init itself will end
    ],
)
def test_a_stop_signal_is_pointless(start: Start, kind: str, init: bool, pointless: bool) -> None:
    assert process.stop_is_pointless(start(kind), init=init) is pointless


NOBODY = 2**22 + 1  # above the largest number that a process can have


def test_of_a_process_that_is_no_more() -> None:
    assert process.start_time(NOBODY) is None
    assert process.dispositions(NOBODY) is None
    assert process.children(NOBODY) == []
    assert process.stop_is_pointless(NOBODY, init=False) is False


def test_start_time_names_a_process_and_a_zombie_is_none() -> None:
    own = process.start_time(os.getpid())
    assert own == process.start_time(os.getpid())
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(read, 1)
        os._exit(0)
    started = process.start_time(child)
    assert started is not None and own is not None and started >= own
    os.write(write, b"x")
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert process.start_time(child) is None
    os.waitpid(child, 0)
    assert process.start_time(child) is None
    os.close(read)
    os.close(write)


def test_start_time_of_a_process_with_a_hostile_name() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with open("/proc/self/comm", "w") as comm:
            comm.write("a) Z 1 (b")
        os.write(write, b"x")
        signal.pause()
    os.read(read, 1)
    try:
        started = process.start_time(child)
        assert started is not None
        assert started >= (process.start_time(os.getpid()) or 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)


def test_children(start: Start) -> None:
    assert len(process.children(start("parent"))) == 1
    assert process.children(start("default")) == []


@pytest.mark.parametrize("ending", [lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_how_a_process_ended_can_be_read_from_its_pidfd_where_the_kernel_keeps_it(ending: Callable[[], None]) -> None:
    child = os.fork()
    if child == 0:
        ending()
    pidfd = os.pidfd_open(child)
    select.select([pidfd], [], [])
    _, status = os.waitpid(child, 0)
    try:
        assert process.wait_status(pidfd) in (status, None)  # None: older than 6.15
    finally:
        os.close(pidfd)


def test_how_a_running_process_ended_is_not_known() -> None:
    pidfd = os.pidfd_open(os.getpid())
    assert process.wait_status(pidfd) is None
    os.close(pidfd)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "ended (how is not known: its parent was gone)"),
        (0, "exited with code 0"),
        (3 << 8, "exited with code 3"),
        (9, "was killed by SIGKILL"),
        (128 + 11, "was killed by SIGSEGV"),  # with a core dump
        (40, "was killed by signal 40"),  # a real-time signal has no name
    ],
)
def test_status_in_words(status: int | None, words: str) -> None:
    assert process.describe_status(status) == words
