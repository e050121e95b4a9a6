"""What ends a command: a sentence for a person, what to do about it, and an exit code."""

import sys

import msgspec

from containerlib.cli.output import printable

FAILED, INVALID, UNKNOWN, EXISTS, FORBIDDEN = 1, 2, 3, 4, 5


class Failure(Exception):
    def __init__(self, message: str, *, hint: str = "", code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


def report(failure: Failure, *, as_json: bool) -> None:
    """On standard error."""
    if as_json:
        error = {"message": failure.message, "hint": failure.hint, "exit_code": failure.code}
        sys.stderr.write(msgspec.json.encode({"error": error}).decode() + "\n")
        return
    sys.stderr.write(f"container: {printable(failure.message)}\n")
    if failure.hint:
        sys.stderr.write(f"  {printable(failure.hint)}\n")
