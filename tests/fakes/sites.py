"""Programs for containers: asyncio handlers that speak as much HTTP as a test needs."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def quiet(handler: Handler) -> Handler:
    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.close()

    return run


def answering(*parts: bytes) -> Handler:
    """Whatever is asked, these bytes."""

    @quiet
    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()

    return run


def text(body: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *fields, b"", body))


def hello() -> Handler:
    return answering(text(b"hello"))


@quiet
async def echo_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The request's head as it arrived, as the response's body."""
    writer.write(text(await read_head(reader)))


@quiet
async def echo_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await read_head(reader)
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    writer.write(text(await reader.readexactly(length)))
