"""A kernel that lacks a call: a filter says so to whoever asks. As a launcher: `python -SI .../lacking.py SOCKET STAGE NUMBER`."""

import errno
import os
import struct
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from containerlib import kernel, launcher

_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_REFUSE, _ALLOW = 0x0005_0000 | errno.ENOSYS, 0x7FFF_0000


def forbid(number: int) -> None:
    """To this process and whatever it starts."""
    lines = ((_LOAD, 0, 0, 0), (_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW))
    kernel.set_seccomp_filter(b"".join(struct.pack("=HBBI", *line) for line in lines))


def run_agent_without(number: int, settings: object, log: Path) -> None:
    from tests.plugins.compute import run_agent

    forbid(number)
    run_agent(settings, log)  # type: ignore[arg-type]


if __name__ == "__main__":
    forbid(int(sys.argv.pop()))
    launcher.main()
