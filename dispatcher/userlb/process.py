"""The HAProxy that runs: found, started, reloaded, watched.

It has a session of its own and outlives the controller. A controller that is new finds it by its socket and knows by a hash of
its configuration (in `show info`) whether it is the right one; a wrong one hands its listening sockets to its successor, so that no
connection is refused meanwhile, and ends when its last request has.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from dispatcher.userlb import config
from dispatcher.userlb.config import Pool
from dispatcher.userlb.haproxy import Runtime
from dispatcher.userlb.lanes import Actual

START_S = 10.0
LOOK_EVERY_S = 0.02
WORDS_SHOWN = 2000  # characters of what it said when it did not start
SOFT_STOP_S = 10.0  # what is under way may take so long, as with the proxies

_log = logging.getLogger(__name__)


class DoesNotStart(Exception):
    """With HAProxy's own words."""


class Haproxy:
    def __init__(self, pool: Pool, runtime: Runtime, *, ended: Callable[[], None]) -> None:
        """`ended` is called when the one that we look after is gone."""
        self._pool = pool
        self._runtime = runtime
        self._ended = ended
        self.was_started = False  # by us, and so empty at first
        self.former: dict[
            int, Actual
        ] = {}  # what those that were replaced had under way then, by pidfd, until they end
        self._pidfd: int | None = None
        self._children: set[int] = set()  # some may be somebody else's by now

    @property
    def is_watched(self) -> bool:
        return self._pidfd is not None

    async def obtain(self) -> bool:
        """One with this configuration runs; False if it was there before. Raises DoesNotStart."""
        text = config.text(self._pool)
        wanted = config.description(text)
        before = await self._running()
        if before is not None and before[1] == wanted:
            self._watch(before[0])
            return False
        self._prepare(text)
        former = None if before is None else await self._runtime.read()
        await self._start(wanted, None if before is None else before[0])
        if before is not None and former is not None:
            self._follow(before[0], former)
        return True

    def _follow(self, pid: int, had: Actual) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        self.former[pidfd] = had
        asyncio.get_running_loop().add_reader(pidfd, self._former_gone, pidfd)

    def _former_gone(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        del self.former[pidfd]
        self._reap()

    async def _running(self) -> tuple[int, str] | None:
        try:
            info = await self._runtime.info()
        except (OSError, KeyError):
            return None
        return info.pid, info.description

    def _prepare(self, text: str) -> None:
        for path in self._pool.maps:
            Path(path).write_text("")  # the controller fills them, over the socket
        self._file.write_text(text)

    @property
    def _file(self) -> Path:
        return Path(self._pool.directory, "haproxy.cfg")

    @property
    def _words(self) -> Path:
        return Path(self._pool.directory, "haproxy.out")

    async def _start(self, wanted: str, before: int | None) -> None:
        command = ["haproxy", "-db", "-f", str(self._file)]
        if before is not None:
            command += ["-x", self._pool.socket, "-sf", str(before)]
            self._children.add(before)
        began = time.monotonic()
        self.was_started = True
        child = self._spawn(command)
        while await self._running() != (child, wanted):
            if child not in self._children or time.monotonic() - began > START_S:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                raise DoesNotStart(self._words.read_text(errors="replace")[-WORDS_SHOWN:].strip())
            await asyncio.sleep(LOOK_EVERY_S)
            self._reap()
        self._watch(child)
        _log.info("HAProxy %d started%s", child, f", takes over from {before}" if before else "")

    def _spawn(self, command: list[str]) -> int:
        """Not by asyncio or subprocess, whose children are not to outlive them. Its words go to a file: a pipe ends with us."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        child = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self._words), flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE],  # which Python ignores
        )
        self._children.add(child)
        return child

    def _reap(self) -> None:
        for child in list(self._children):
            try:
                if os.waitpid(child, os.WNOHANG) != (0, 0):
                    self._children.discard(child)
            except ChildProcessError:
                self._children.discard(child)

    def _watch(self, pid: int) -> None:
        self._unwatch()
        self._children.add(pid)
        self._pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._gone)

    def _gone(self) -> None:
        self._unwatch()
        self._reap()
        self._ended()

    def let_go(self) -> None:
        """It goes on without us, and so do those before it."""
        for pidfd in list(self.former):
            self._former_gone(pidfd)
        self._unwatch()

    def _unwatch(self) -> None:
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    async def stop(self) -> None:
        """Takes no more connections, lets what is under way end, and is gone."""
        if self._pidfd is None:
            return
        pidfd = os.dup(self._pidfd)
        self.let_go()
        try:
            for number, wait_s in ((signal.SIGUSR1, SOFT_STOP_S), (signal.SIGKILL, None)):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)
                if await _ends(pidfd, wait_s):
                    break
        finally:
            os.close(pidfd)
        self._reap()


async def _ends(pidfd: int, wait_s: float | None) -> bool:
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(pidfd, gone.set)
    try:
        async with asyncio.timeout(wait_s):
            await gone.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
    return True
