"""A visitor who cannot wait: connects again and again until somebody accepts, and takes the time of the first byte."""

import socket
import time
from dataclasses import dataclass

RETRY_S = 0.0002
PATIENCE_S = 10.0
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Visit:
    at: float  # perf_counter of the first byte
    answer: bytes

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name."""
        lines = self.answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def visit(address: Address, host: str, page: bytes, path: str = "/") -> Visit:
    """Raises TimeoutError where nobody listens in time, ValueError where the answer is not `page`."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    with _connect(address) as connection:
        connection.sendall(request)
        chunks = [connection.recv(65536)]
        at = time.perf_counter()
        while chunks[-1]:
            chunks.append(connection.recv(65536))
    answer = b"".join(chunks)
    if page not in answer or b" 200 " not in answer.partition(b"\r\n")[0]:
        raise ValueError(f"{address[0]}:{address[1]} answered {answer[:500]!r} instead of the page")
    return Visit(at, answer)


def _connect(address: Address) -> socket.socket:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(address)
        except ConnectionRefusedError:
            connection.close()
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody listens at {address[0]}:{address[1]} within {PATIENCE_S:g} s") from None
            time.sleep(RETRY_S)
        except BaseException:
            connection.close()
            raise
        else:
            return connection


def is_open(address: Address) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


def wait_until_closed(address: Address) -> None:
    """A namespace's processes end a moment after its first one."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if not is_open(address):
            return
        time.sleep(0.001)
    raise TimeoutError(f"somebody still listens at {address[0]}:{address[1]}")


def phases_of(server_timing: str) -> dict[str, float]:
    """Pure: 'queue;dur=0.1, exec;dur=2.5' -> milliseconds by phase; of a name that comes twice, the first."""
    phases: dict[str, float] = {}
    for entry in server_timing.split(","):
        name, *parameters = (word.strip() for word in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key == "dur":
                phases.setdefault(name, float(value))
    return phases
