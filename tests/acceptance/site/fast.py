"""As quick as Python gets: one thread, one small answer for each connection."""

import os
import socket

BODY = os.urandom(4).hex().encode()  # another for each life
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


def main() -> None:
    listener = socket.create_server(("0.0.0.0", 80), backlog=128)
    while True:
        connection, _ = listener.accept()
        try:
            head = connection.recv(4096)
            while not head.endswith(b"\r\n\r\n"):
                more = connection.recv(4096)
                if not more:
                    break
                head += more
            connection.sendall(ANSWER)
        except OSError:
            pass
        connection.close()


main()
