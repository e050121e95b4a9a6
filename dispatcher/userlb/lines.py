"""What HAProxy logs of each request that no UserProxy answered (config.py has the format), as a line of the access log. Pure."""

from typing import Any

import msgspec

from dispatcher.accesslog import CHARACTERS_MAX, timestamp
from dispatcher.problems import Code

_BY_STATUS = {400: "refused", 404: Code.UNKNOWN_HOST, 413: Code.BODY_TOO_LARGE, 429: Code.TOO_MANY_REQUESTS}


class Line(msgspec.Struct, frozen=True):
    """Times are milliseconds, -1 for what was not reached."""

    id: str
    at: float  # Unix time at which the request began
    lane: str
    server: str  # a slot's name, or a UserProxy's, or <NOSRV>
    method: str
    status: int
    end: str  # HAProxy's termination state: who ended it, and in which phase
    ms: int
    queue_ms: int
    connect_ms: int
    response_ms: int  # from the connection to the response's head
    bytes: int
    tries: str
    host: str
    path: str

    @property
    def via(self) -> str:
        """Which of us answered: a lane, `fastcontainer files`, or HAProxy itself before either."""
        return "lane" if self.lane.startswith("lane") else "files" if self.lane == "files" else "userlb"

    @property
    def outcome(self) -> str:
        """As the proxies call it."""
        match self.end:
            case "--":
                return "passed"
            case "sQ" | "sH":
                return Code.DEADLINE
            case "PR" | "LR":  # HAProxy itself refused it, or answered it
                return _BY_STATUS.get(self.status, Code.QUEUE_FULL if self.end == "PR" else "answered")
        return "client_left" if self.end[0] in "Cc" else "cut" if self.end == "SD" else Code.CONTAINER_DIED


_decoder = msgspec.json.Decoder(Line)


def parse(datagram: bytes) -> Line:
    """Raises msgspec.DecodeError."""
    return _decoder.decode(datagram)


def access_line(line: Line, app: str, life: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "time": timestamp(line.at),
        "id": line.id,
        "method": line.method,
        "host": line.host[:CHARACTERS_MAX],
        "path": line.path[:CHARACTERS_MAX],
        "status": line.status,
        "outcome": line.outcome,
        "app": app,
        "container": life.partition("/")[2].partition(".")[0],
        "life": life,
        "ms": line.ms,
        "bytes": line.bytes,
    }
    if line.response_ms >= 0:
        fields["first_byte_ms"] = line.queue_ms + line.connect_ms + line.response_ms
    if line.queue_ms > 0:
        fields["held_ms"] = line.queue_ms
    if line.tries.lstrip("+") != "0":
        fields["tries"] = 1 + int(line.tries.lstrip("+"))
    return fields | {"via": line.via}
