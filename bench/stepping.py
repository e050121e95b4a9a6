"""The launcher, but its blanks say on their standard error how long each step took that made them somebody.

Started by bench/steps.py in the launcher's place: `python -SI bench/stepping.py SOCKET STAGE`.
"""

import json
import os
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - -I removed it

from containerlib import blank, launcher
from containerlib.operations import EnterGroup, Operation

MARK = "steps "
SPAWN = "posix_spawn"
_taken: list[tuple[str, float]] = []
_posix_spawn = os.posix_spawn


def execute(operations: tuple[Operation, ...]) -> None:
    for operation in operations:
        began = time.perf_counter()
        operation.execute()
        if not isinstance(operation, EnterGroup):  # done in reserve
            _taken.append((type(operation).__name__, (time.perf_counter() - began) * 1e6))


def posix_spawn(*arguments: Any, **options: Any) -> int:
    began = time.perf_counter()
    pid = _posix_spawn(*arguments, **options)
    _taken.append((SPAWN, (time.perf_counter() - began) * 1e6))
    os.write(2, f"{MARK}{json.dumps(_taken)}\n".encode())
    return pid


def main() -> None:
    blank.execute = execute
    os.posix_spawn = posix_spawn
    launcher.main()


if __name__ == "__main__":
    main()
