"""HTTP over bare sockets: what goes out and comes in, byte for byte."""

import asyncio
from dataclasses import dataclass

PATIENCE_S = 30.0  # as long as a site may take to start: what is slower than it should be is for the tests of that


@dataclass
class Response:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes
    head: bytes

    @property
    def raw(self) -> bytes:
        return self.head + self.body


@dataclass
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self, *, within_s: float = PATIENCE_S) -> Response:
        async with asyncio.timeout(within_s):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *rest = raw.decode("latin-1").split("\r\n")
        fields = dict(line.split(": ", 1) for line in rest if line)
        return Response(int(first.split()[1]), {name.lower(): value for name, value in fields.items()}, b"", raw)

    async def response(self, *, within_s: float = PATIENCE_S, method: str = "GET") -> Response:
        response = await self.head(within_s=within_s)
        async with asyncio.timeout(within_s):
            if method == "HEAD" or response.status in (204, 304):
                pass
            elif "chunked" in response.headers.get("transfer-encoding", ""):
                while (chunk := await self.chunk()) != b"":
                    response.body += chunk
            elif "content-length" in response.headers:
                response.body = await self.reader.readexactly(int(response.headers["content-length"]))
            else:
                response.body = await self.reader.read()
        return response

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return data

    async def ask(self, host: str, path: str = "/", method: str = "GET", **fields: str) -> Response:
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        self.send(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode())
        return await self.response(method=method)

    async def closed(self, *, within_s: float = 5.0) -> bytes:
        """What comes until the peer closes."""
        async with asyncio.timeout(within_s):
            return await self.reader.read()

    def close(self) -> None:
        self.writer.close()


async def ask(port: int, host: str, path: str = "/", method: str = "GET", **fields: str) -> Response:
    connection = await Connection.open(port)
    try:
        return await connection.ask(host, path, method, **fields)
    finally:
        connection.close()
