"""Asking a runner for something."""

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest

from containerlib.standalone.control import Refused, ask, serve


async def echo(request: dict[str, Any]) -> str:
    if request["ask"] == "no":
        raise Refused("not now")
    return f"heard {request['ask']}"


async def test_asked_and_answered(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("of a predecessor")
    server = await serve(path, echo)
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await asyncio.to_thread(ask, path, {"ask": "this"}, 5.0) == "heard this"
        with pytest.raises(Refused, match="not now"):
            await asyncio.to_thread(ask, path, {"ask": "no"}, 5.0)
        with pytest.raises(Refused, match="ask"):
            await asyncio.to_thread(ask, path, {}, 5.0)
    finally:
        server.close()
        await server.wait_closed()


async def test_what_is_no_request_hurts_nobody(tmp_path: Path) -> None:
    server = await serve(tmp_path / "control.sock", echo)
    try:
        for line in (b"{\n", b"[]\n", b"\n", b""):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
            writer.write(line)
            writer.write_eof()
            assert b'"failure": "' in await reader.read()
            writer.close()
        assert await asyncio.to_thread(ask, tmp_path / "control.sock", {"ask": "this"}, 5.0) == "heard this"
    finally:
        server.close()
        await server.wait_closed()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(tmp_path / "control.sock", {"ask": "this"}, 1.0)
