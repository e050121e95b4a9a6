"""A site for tests: what it does is asked for by the path. Python's standard library alone, quick to start.

site.py [--backlog N] [--one-at-a-time] [--ignore-term] [--connect HOST:PORT]
"""

import hashlib
import os
import signal
import socket
import sys
import threading
import time

BOOT = os.urandom(4).hex()  # another for each life


def main() -> None:
    words = sys.argv[1:]
    backlog = int(words[words.index("--backlog") + 1]) if "--backlog" in words else 128
    if "--ignore-term" in words:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "--connect" in words:  # as to a database, and kept
        host, port = words[words.index("--connect") + 1].split(":")
        pooled = socket.create_connection((host, int(port)))
        threading.Thread(target=pooled.recv, args=(1,), daemon=True).start()
    listener = socket.create_server(("0.0.0.0", int(os.environ.get("PORT", "80"))), backlog=backlog)
    while True:
        connection, _ = listener.accept()
        if "--one-at-a-time" in words:
            serve(connection)
        else:
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


def serve(connection: socket.socket) -> None:
    with connection, connection.makefile("rb") as reader:
        try:
            while answer(connection, reader):
                pass
        except OSError:
            pass


def answer(connection: socket.socket, reader) -> bool:  # type: ignore[no-untyped-def]
    head = b""
    while True:
        line = reader.readline(65536)
        if not line:
            return False
        head += line
        if line == b"\r\n":
            break
    fields = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
    target = head.split(b" ")[1].decode()
    path, _, query = target.partition("?")
    options = dict(pair.split("=") for pair in query.split("&") if "=" in pair)
    action = ACTIONS.get(path, tell)
    action(connection, reader, head, fields, options)
    return fields.get(b"connection", b"").lower() == b"keep-alive"


def reply(connection: socket.socket, body: bytes, status: str = "200 OK") -> None:
    connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nX-Boot: {BOOT}\r\n\r\n".encode() + body)


def tell(connection, reader, head, fields, options) -> None:  # type: ignore[no-untyped-def]
    time.sleep(float(options.get("s", "0")))
    reply(connection, BOOT.encode())


def echo_head(connection, reader, head, fields, options) -> None:  # type: ignore[no-untyped-def]
    reply(connection, head)


def drip(connection, reader, head, fields, options) -> None:  # type: ignore[no-untyped-def]
    """A slow download: `n` parts, one each `s` seconds; or server-sent events, which are no different."""
    kind = "text/event-stream" if "sse" in options else "application/octet-stream"
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for number in range(int(options["n"])):
        part = b"data: %d\n\n" % number
        connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        time.sleep(float(options["s"]))
    connection.sendall(b"0\r\n\r\n")


def upload(connection, reader, head, fields, options) -> None:  # type: ignore[no-untyped-def]
    """The sum of what came; it begins to read before all is there, and says when it saw the first of it."""
    digest, count = hashlib.sha256(), 0
    if b"content-length" in fields:
        left = int(fields[b"content-length"])
        while left:
            data = reader.read1(min(left, 65536))
            if not data:
                return
            left -= len(data)
            digest.update(data)
            count += len(data)
    else:
        while size := int(reader.readline(), 16):
            data = reader.read(size)
            reader.readline()
            digest.update(data)
            count += size
        reader.readline()
    reply(connection, f"{count} {digest.hexdigest()}".encode())


def websocket(connection, reader, head, fields, options) -> None:  # type: ignore[no-untyped-def]
    """Says nothing unless spoken to; then the same."""
    import base64

    key = hashlib.sha1(fields[b"sec-websocket-key"] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    accept = base64.b64encode(key).decode()
    connection.sendall(
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    while True:
        first = reader.read(2)
        if len(first) < 2 or first[0] & 0x0F == 8:
            return
        mask, data = reader.read(4), reader.read(first[1] & 0x7F)
        plain = bytes(byte ^ mask[number % 4] for number, byte in enumerate(data))
        connection.sendall(bytes((first[0], len(plain))) + plain)


def die(connection, reader, head, fields, options) -> None:  # type: ignore[no-untyped-def]
    os._exit(3)


def eat(connection, reader, head, fields, options) -> None:  # type: ignore[no-untyped-def]
    held = []
    while True:
        held.append(b"x" * (4 << 20))


def fork(connection, reader, head, fields, options) -> None:  # type: ignore[no-untyped-def]
    """Until it is refused, and then it goes on trying."""
    made = 0
    until = time.monotonic() + float(options.get("s", "1"))
    while time.monotonic() < until:
        try:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            made += 1
        except OSError:
            time.sleep(0.001)
    reply(connection, str(made).encode())


ACTIONS = {
    "/head": echo_head,
    "/drip": drip,
    "/upload": upload,
    "/ws": websocket,
    "/die": die,
    "/eat": eat,
    "/fork": fork,
}

if __name__ == "__main__":
    main()
