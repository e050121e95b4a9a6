"""The one error that crosses a process border: a stable code, a sentence for a person, and what to do about it.

Inside a process errors are builtin exceptions. Where they leave it (an HTTP answer, the agent's socket, an exit code) they
become a Problem, and the tables here say what each code means on each border.
"""

from enum import StrEnum


class Code(StrEnum):
    UNKNOWN_HOST = "unknown_host"  # no app answers to this host name
    UNKNOWN_APP = "unknown_app"
    UNKNOWN_CONTAINER = "unknown_container"
    SWITCHED_OFF = "switched_off"
    MAINTENANCE = "maintenance"
    QUEUE_FULL = "queue_full"  # bounded per app and in total: refused at once
    TOO_MANY_REQUESTS = "too_many_requests"  # of one client, or to one app, than it allows
    BODY_TOO_LARGE = "body_too_large"
    START_TIMEOUT = "start_timeout"  # still starting when its time was over
    START_FAILED = "start_failed"  # exited, never listens, command not found: with the reason
    BACKING_OFF = "backing_off"  # it failed a moment ago; retry_after_s says when it is tried again
    CONTAINER_DIED = "container_died"  # under a request that may not be repeated, or twice
    DEADLINE = "deadline"  # queue + start + response took longer than the app allows
    NO_COMPUTE = "no_compute"  # nobody who could start it answers
    BUSY = "busy"  # a later change won; read again and retry
    INVALID = "invalid"  # what was asked does not parse or breaks a rule
    EXISTS = "exists"
    FORBIDDEN = "forbidden"
    CMDB_DOWN = "cmdb_down"
    INTERNAL = "internal"


HTTP_STATUS: dict[Code, int] = {
    Code.UNKNOWN_HOST: 404,
    Code.UNKNOWN_APP: 404,
    Code.UNKNOWN_CONTAINER: 404,
    Code.SWITCHED_OFF: 503,
    Code.MAINTENANCE: 503,
    Code.QUEUE_FULL: 503,
    Code.TOO_MANY_REQUESTS: 429,
    Code.BODY_TOO_LARGE: 413,
    Code.START_TIMEOUT: 503,
    Code.START_FAILED: 503,
    Code.BACKING_OFF: 503,
    Code.CONTAINER_DIED: 502,
    Code.DEADLINE: 504,
    Code.NO_COMPUTE: 503,
    Code.BUSY: 409,
    Code.INVALID: 400,
    Code.EXISTS: 409,
    Code.FORBIDDEN: 403,
    Code.CMDB_DOWN: 503,
    Code.INTERNAL: 500,
}

# Exit codes of the command line: 2 is what the argument parser itself uses for a wrong call.
EXIT_CODE: dict[Code, int] = {
    Code.INVALID: 2,
    Code.UNKNOWN_HOST: 3,
    Code.UNKNOWN_APP: 3,
    Code.UNKNOWN_CONTAINER: 3,
    Code.EXISTS: 4,
    Code.BUSY: 4,
    Code.FORBIDDEN: 5,
    Code.CMDB_DOWN: 6,
    Code.NO_COMPUTE: 6,
}


class Problem(Exception):
    """`message` says what is wrong with which value; `hint` what to do; `retry_after_s` when it may be tried again."""

    def __init__(self, code: Code, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.retry_after_s = retry_after_s

    @property
    def http_status(self) -> int:
        return HTTP_STATUS[self.code]

    @property
    def exit_code(self) -> int:
        return EXIT_CODE.get(self.code, 1)
