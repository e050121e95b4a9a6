"""supervisord, as the reaper of everything below it and quicker on its feet: python -m dispatcher.quickstart.supervise CONFIG"""

import contextlib
import ctypes
import os
import signal
import sys

from supervisor.medusa.asyncore_25 import ExitNow
from supervisor.options import ServerOptions
from supervisor.supervisord import Supervisor

PR_SET_CHILD_SUBREAPER = 36


class Wakeup:
    """Ends supervisord's poll at a signal. Since Python resumes an interrupted poll it would notice a death up to a second late."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        os.read(self.reader, 4096)


class Reaper(Supervisor):  # type: ignore[misc]
    def runforever(self) -> None:
        wakeup = Wakeup()
        self.options.get_socket_map()[wakeup.reader] = wakeup
        super().runforever()

    def reap(self, once: bool = False, recursionguard: int = 0) -> None:
        super().reap(once, recursionguard)
        if recursionguard == 0:
            # What has just been reaped starts again now and not at the next turn of the loop.
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
    with contextlib.suppress(ExitNow):  # how it says that it is done
        Reaper(options).main()


if __name__ == "__main__":
    main(sys.argv[1])
