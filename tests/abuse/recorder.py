"""A container that keeps every byte it gets, and says whether they are one request that nobody can read in two ways."""

import asyncio
from collections import defaultdict

import h11

from tests.fakes.clients import Connection

QUIET_S = 0.6


class Recorder:
    def __init__(self) -> None:
        self.connections: list[bytearray] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = bytearray()
        self.connections.append(raw)
        parser = h11.Connection(h11.SERVER)
        try:
            while True:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    data = await reader.read(1 << 16)
                    if not data:
                        return
                    raw += data
                    parser.receive_data(data)
                elif isinstance(event, h11.EndOfMessage):
                    break
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsite")
            await writer.drain()
        except (h11.RemoteProtocolError, ConnectionError):
            writer.write(b"HTTP/1.1 400 The site refused it\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        finally:
            writer.close()


def ambiguities(raw: bytes) -> list[str]:
    """What two servers might read differently in what a container got."""
    head = raw.partition(b"\r\n\r\n")[0]
    lines = head.split(b"\r\n")
    fields: dict[bytes, list[bytes]] = defaultdict(list)
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        fields[name.lower()].append(value.strip())
    found = []
    if b"\n" in head.replace(b"\r\n", b"") or b"\r" in head.replace(b"\r\n", b"") or b"\0" in head:
        found.append("bare CR, LF or NUL")
    if any(
        line[:1] in (b" ", b"\t") or line.partition(b":")[0].strip() != line.partition(b":")[0] for line in lines[1:]
    ):
        found.append("a continued line, or a blank before a colon")
    if len(fields[b"content-length"]) + len(fields[b"transfer-encoding"]) > 1:
        found.append("two framings")
    if any(value.lower() != b"chunked" for value in fields[b"transfer-encoding"]):
        found.append("an odd encoding")
    if len(fields[b"host"]) != 1:
        found.append("not one Host")
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(raw)
    ended = False
    while not ended:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            return [*found, "no end"]
        ended = isinstance(event, h11.EndOfMessage)
    if parser.trailing_data[0]:
        found.append("something after its end")
    return found


async def answers(port: int, sent: bytes) -> str:
    """Statuses; `cut` where the connection ended without one, `waits` where there is more to come for whoever was asked."""
    connection = await Connection.open(port)
    got = b""
    try:
        connection.send(sent)
        while True:
            async with asyncio.timeout(QUIET_S):
                data = await connection.reader.read(1 << 16)
            if not data:
                break
            got += data
    except TimeoutError:
        got = got or b"HTTP/1.1 waits"
    except ConnectionError:
        pass
    finally:
        connection.close()
    statuses = [line.split(b" ")[1].decode() for line in got.split(b"\r\n") if line.startswith(b"HTTP/1.")]
    statuses += [
        part.split(b" ")[1].decode() for part in got.split(b"siteHTTP/1.1")[1:] if not part.startswith(b"HTTP")
    ]
    return " ".join(statuses) or "cut"
