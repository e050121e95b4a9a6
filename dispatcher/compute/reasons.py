"""Why a life ended, in words for the site's owner."""

import os

from containerlib import process
from dispatcher import units
from dispatcher.compute.life import Life


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
