"""A site in a few lines. It tells who asked, and how long it has been awake. Python's standard library alone."""

import os
import socketserver
import time

AWAKE_SINCE = time.monotonic()


class Hello(socketserver.StreamRequestHandler):
    timeout = 30

    def handle(self) -> None:
        while self.answer():
            pass

    def answer(self) -> bool:
        """One request; False when the client is done."""
        words = self.rfile.readline(65536).decode("latin-1").split()
        if len(words) != 3:
            return False
        headers = {}
        while (line := self.rfile.readline(65536).decode("latin-1").strip()) and len(headers) < 100:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self.rfile.read(min(int(headers.get("content-length") or 0), 1 << 20))
        body = (
            f"Hello, {headers.get('host', 'nobody')}!\n"
            f"{words[0]} {words[1]} in container {os.uname().nodename}, "
            f"process {os.getpid()} of user {os.getuid()}, awake for {time.monotonic() - AWAKE_SINCE:.3f} s.\n"
        ).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + (b"" if words[0] == "HEAD" else body))
        return headers.get("connection", "").lower() != "close"


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Server(("0.0.0.0", int(os.environ.get("PORT", "80"))), Hello).serve_forever()
