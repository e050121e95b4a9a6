"""supervisord, as the reaper of everything below it and quicker on its feet: python -m dispatcher.quickstart.supervise CONFIG"""

import ctypes
import os
import sys

from supervisor.options import ServerOptions
from supervisor.supervisord import Supervisor

PR_SET_CHILD_SUBREAPER = 36


class Reaper(Supervisor):  # type: ignore[misc]
    def reap(self, once: bool = False, recursionguard: int = 0) -> None:
        super().reap(once, recursionguard)
        if recursionguard == 0:
            # Its own loop starts again what it has reaped when it wakes the next time, up to a second later.
            for group in self.process_groups.values():
                group.transition()


def become_subreaper() -> None:
    """Containers whose launcher was killed come to us and not to the host's PID 1, which may take its time to reap them."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "prctl(PR_SET_CHILD_SUBREAPER)")


def main(config: str) -> None:
    become_subreaper()
    options = ServerOptions()
    options.realize(["-c", config])
    options.first = True
    options.test = False
    Reaper(options).main()


if __name__ == "__main__":
    main(sys.argv[1])
