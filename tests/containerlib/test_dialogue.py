"""What a blank may answer, and what becomes of it; whole conversations with real ones are in test_runtime.py."""

import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from containerlib import dialogue, process
from containerlib.handle import BlankLost, StartFailed
from containerlib.identity import Identity

FAILED = json.dumps({"failed": "no such file", "step": "mounts"}).encode()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, blanks = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, blanks:
        ours.setblocking(False)
        yield ours, blanks


async def _at_gate() -> None:
    raise AssertionError("nobody was at the gate")


Waiting = Callable[[socket.socket], Awaitable[Any]]
READY: Waiting = dialogue.expect_ready
GATE: Waiting = lambda control: dialogue.pass_gate(control, _at_gate)  # noqa: E731
EXEC: Waiting = dialogue.expect_exec


@pytest.mark.parametrize(
    ("waiting", "answer", "error", "words"),
    [
        (READY, FAILED, StartFailed, r"no such file \(mounts\)"),
        (READY, b"", StartFailed, "ended before it was ready"),
        (READY, b"go", StartFailed, "ended before it was ready"),
        (GATE, FAILED, StartFailed, r"no such file \(mounts\)"),
        (GATE, b"", BlankLost, "died"),
        (EXEC, FAILED, StartFailed, r"no such file \(mounts\)"),
        (EXEC, b"", BlankLost, "died"),
        (EXEC, b"gate", BlankLost, "died"),
        (EXEC, b'{"failed": "which user?", "step": "identity"}', StartFailed, r"^which user\?$"),
    ],
)
async def test_anything_but_the_word_that_is_due_is_a_failure(
    ends: tuple[socket.socket, socket.socket], waiting: Waiting, answer: bytes, error: type[Exception], words: str
) -> None:
    ours, blanks = ends
    if answer:
        blanks.send(answer)
    blanks.shutdown(socket.SHUT_WR)
    with pytest.raises(error, match=words):
        await waiting(ours)


async def test_the_word_that_is_due_lets_the_start_go_on(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, blanks = ends
    blanks.send(b"ready")
    await dialogue.expect_ready(ours)
    passed: list[str] = []

    async def at_gate() -> None:
        passed.append("gate")

    blanks.send(b"gate")
    await dialogue.pass_gate(ours, at_gate)
    assert (passed, blanks.recv(64)) == (["gate"], b"go")
    blanks.send(b"exec")
    assert await dialogue.expect_exec(ours) is None


async def test_a_program_that_was_spawned_comes_with_its_pidfd(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, blanks = ends
    pidfd = os.pidfd_open(os.getpid())
    socket.send_fds(blanks, [b"exec"], [pidfd])
    os.close(pidfd)
    program = await dialogue.expect_exec(ours)
    assert program is not None
    try:
        assert process.pid_of(program.pidfd) == os.getpid()
    finally:
        os.close(program.pidfd)


def test_an_identity_that_does_not_fit_is_refused_with_both_sizes(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(StartFailed, match=r"take \d+ bytes, at most \d+ fit"):
        dialogue.send_identity(ends[0], Identity("a", 1, ("x" * dialogue.MESSAGE_BYTES_MAX,)))


def test_a_blank_that_is_gone_may_be_replaced_by_another(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].close()
    with pytest.raises(BlankLost, match="is gone"):
        dialogue.send_identity(ends[0], Identity("a", 1, ("true",)))
