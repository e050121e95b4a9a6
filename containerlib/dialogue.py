"""What is said between whoever holds a blank and the blank itself (blank.py), on the socket that the launcher left them."""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from containerlib.bind import BindMount, open_mount
from containerlib.blank import MESSAGE_BYTES_MAX
from containerlib.handle import BlankLost, Container, Program, StartFailed
from containerlib.identity import Identity

BLANK_TIMEOUT_S = 10.0
WAKE_TIMEOUT_S = 10.0


def send_identity(control: socket.socket, identity: Identity, terminal: int | None = None) -> None:
    message = identity.to_bytes()
    if len(message) > MESSAGE_BYTES_MAX:
        raise StartFailed(f"command and environment take {len(message)} bytes, at most {MESSAGE_BYTES_MAX} fit")
    try:
        if terminal is None:
            control.send(message)
        else:
            socket.send_fds(control, [message], [terminal])
    except ConnectionError as error:
        raise BlankLost(f"the prepared process is gone: {error}") from error


def send_mounts(control: socket.socket, mounts: tuple[BindMount, ...]) -> None:
    fds: list[int] = []
    try:
        for bind in mounts:
            fds.append(open_mount(bind))
        with suppress(ConnectionError):  # it failed meanwhile, and what it said of that is read next
            socket.send_fds(control, [b"mounts"], fds)
    finally:
        for fd in fds:
            os.close(fd)


def exec_failure(container: Container) -> str:
    """Of a container that has ended: why it was never executed; empty if it was."""
    if container.control is None:
        return ""
    try:
        _refuse_failure(container.control.recv(MESSAGE_BYTES_MAX))
    except StartFailed as failure:
        return str(failure)
    except OSError:
        pass
    return ""


async def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(control, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(control)
    try:
        message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES_MAX, 1)
    except ConnectionError:
        return b"", []
    return message, descriptors


async def expect_ready(control: socket.socket) -> int | None:
    """A pidfd of PID 1, where that is another process."""
    async with asyncio.timeout(BLANK_TIMEOUT_S):
        message, descriptors = await _receive(control)
    _refuse_failure(message)
    if message != b"ready":
        raise StartFailed("the blank ended before it was ready")
    return descriptors[0] if descriptors else None


async def pass_gate(control: socket.socket, at_gate: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(WAKE_TIMEOUT_S):
        message, _ = await _receive(control)
    _refuse_failure(message)
    if message != b"gate":
        raise BlankLost("the prepared process died")
    await at_gate()
    with suppress(ConnectionError):  # it died meanwhile, which shows next
        control.send(b"go")


async def expect_exec(control: socket.socket) -> Program | None:
    """The end of the stream, which only execve (close-on-exec) or death brings, is not awaited: a program that boots should
    not have to share its CPU with us, and its end is noticed anyway."""
    async with asyncio.timeout(WAKE_TIMEOUT_S):
        message, descriptors = await _receive(control)
    _refuse_failure(message)
    if message != b"exec":
        raise BlankLost("the prepared process died")
    return Program(descriptors[0]) if descriptors else None


async def until_executed(container: Container) -> None:
    """Until the blank is no more: its program runs before that (see blank.py). Raises StartFailed and TimeoutError."""
    if container.control is not None:
        async with asyncio.timeout(WAKE_TIMEOUT_S):
            message, _ = await _receive(container.control)
        _refuse_failure(message)


def _refuse_failure(message: bytes) -> None:
    if message.startswith(b"{"):
        failure = json.loads(message)
        raise StartFailed(
            failure["failed"] if failure["step"] == "identity" else f"{failure['failed']} ({failure['step']})"
        )
