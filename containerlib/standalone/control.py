"""Asking the runner of a container for something: one line of JSON each way, on a socket that root alone may open.

-> {"ask": "stop", "signal": "TERM", "grace_s": 10.0}     absent: as its definition says; answered when it has ended
-> {"ask": "signal", "signal": "USR1"}                    to the container's program
-> {"ask": "handle", "signal": "USR1"}                    to the definition's own handlers
-> {"ask": "reload"}
-> {"ask": "checkpoint", "moment": "ready", "leave_running": false}     said: the image's directory
<- {"failure": "", "said": "..."}
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

LINE_BYTES_MAX = 65536
Handler = Callable[[dict[str, Any]], Awaitable[str]]


class Refused(Exception):
    """What was asked for cannot be done."""


async def serve(path: Path, handle: Handler) -> asyncio.Server:
    """`handle` returns what is to be said, or raises Refused."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = msgspec.json.decode(await reader.readline(), type=dict[str, Any])
            reply = {"failure": "", "said": await handle(request)}
        except (Refused, msgspec.DecodeError, ValueError, KeyError) as error:
            reply = {"failure": str(error), "said": ""}
        try:
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except ConnectionError:
            pass  # whoever asked did not wait
        finally:
            writer.close()

    return await asyncio.start_unix_server(answer, sock=_listener(path), limit=LINE_BYTES_MAX)


def _listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # a predecessor's
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    return listener


def ask(path: Path, request: dict[str, Any], timeout_s: float | None) -> str:
    """What was said. Raises Refused; OSError where nobody answers, TimeoutError too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as reading:
            line = reading.readline(LINE_BYTES_MAX)
    if not line:
        raise ConnectionResetError("its runner went away")
    reply = json.loads(line)
    if reply["failure"]:
        raise Refused(reply["failure"])
    return str(reply["said"])
