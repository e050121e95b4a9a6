"""Several UserProxies on one host: a process for each, all alike, with nothing in common but the CMDB, the agent and this parent.

The parent starts them, starts a dead one again, and hands signals on. It carries no request. A worker ends, as by SIGTERM, when its
standard input does, so that it does not outlive a parent that was killed.
"""

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Sequence

from addons.lean import DRAIN_S_MAX
from dispatcher.settings import Settings
from dispatcher.tasks import Tasks

PAUSE_FIRST_S, PAUSE_LAST_S = 0.1, 5.0  # before a worker that died is started again; doubled each time
STEADY_S = 10.0  # one that lived so long begins anew with the first pause
STOP_S_MAX = DRAIN_S_MAX + 3.0

_log = logging.getLogger(__name__)


def command_of(number: int) -> tuple[str, ...]:
    return (sys.executable, "-m", "addons.userproxy", "--worker", str(number))


def pause_s(before_s: float | None, lived_s: float) -> float:
    """Pure. `before_s`: the pause before the life that has just ended; None: there was none."""
    if before_s is None or lived_s >= STEADY_S:
        return PAUSE_FIRST_S
    return min(PAUSE_LAST_S, before_s * 2)


class Workers:
    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        """To be made in the event loop that it runs in."""
        self._commands = commands
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._tasks = Tasks()

    async def run(self) -> None:
        """Until `stop`, and until all have ended."""
        keepers = [
            self._tasks.start(self._keep(number, command), name=f"worker {number}")
            for number, command in enumerate(self._commands, 1)
        ]
        try:
            await self._stopping.wait()
            self.signal(signal.SIGTERM)
            _, late = await asyncio.wait(keepers, timeout=STOP_S_MAX)
            if late:
                _log.warning("%d workers did not end within %g s: killed", len(late), STOP_S_MAX)
                self.signal(signal.SIGKILL)
                await asyncio.wait(keepers)
        finally:
            self.signal(signal.SIGKILL)
            await self._tasks.close()

    def stop(self) -> None:
        self._stopping.set()

    def signal(self, number: int) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self, number: int, command: Sequence[str]) -> None:
        before_s: float | None = None
        while not self._stopping.is_set():
            began = time.monotonic()
            process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
            self._processes[number] = process
            if self._stopping.is_set():
                process.terminate()
            _log.info("worker %d is process %d", number, process.pid)
            status = await process.wait()
            del self._processes[number]
            if self._stopping.is_set():
                return
            before_s = pause_s(before_s, time.monotonic() - began)
            _log.warning("worker %d (%d) ended with %d; again in %.1f s", number, process.pid, status, before_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(before_s):
                    await self._stopping.wait()


async def _main(settings: Settings) -> None:
    workers = Workers([command_of(number + 1) for number in range(settings.userproxy_workers)])
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, workers.stop)
    loop.add_signal_handler(signal.SIGHUP, workers.signal, signal.SIGHUP)
    await workers.run()


def run(settings: Settings) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_main(settings))
