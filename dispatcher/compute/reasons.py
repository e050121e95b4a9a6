"""Why a life did not come to be, or ended, in words for the site's owner."""

import os

from containerlib import process
from containerlib.readiness import Finding, Listening
from dispatcher import units
from dispatcher.compute.life import Life


def why_not_ready(finding: Finding, port: int, timeout_s: float) -> str:
    match finding.listening:
        case Listening.LOOPBACK_ONLY:
            return f"it listens on port {port} of 127.0.0.1 only; it must listen on 0.0.0.0"
        case Listening.OTHER_PORT:
            ports = ", ".join(map(str, finding.ports))
            return f"it listens on port {ports}, not on port {port} (the app's `port`)"
        case _:
            return f"it did not listen on port {port} within {timeout_s:g} s"


def why_ended(life: Life, status: int | None) -> str:
    """`status`: as os.wait has it; None where nobody knows it."""
    assert life.handle is not None
    group = life.handle.group
    if group.oom_kills():
        limit = units.format_memory(life.app.memory_bytes) if life.app.memory_bytes else "the host's memory"
        return f"it used more memory than its limit {limit}, and the kernel killed it"
    reason = f"it {process.describe_status(status)}"
    if group.pids_refused():
        reason += f", after its limit of {life.app.spec.pids} processes was reached"
    tail = "; ".join(life.log.tail) if life.log else ""
    return f"{reason}; its last words: {tail}" if tail else reason


def exit_code(status: int | None) -> int | None:
    """As a shell has it."""
    code = None if status is None else os.waitstatus_to_exitcode(status)
    return 128 - code if code is not None and code < 0 else code
