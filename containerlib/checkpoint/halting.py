"""Standing still right before a system call, such as listen(): the moment at which an image is taken of a program that has booted,
but serves nobody yet.

    async with following(blank.pid, "listen") as halting:      # while the blank waits: nothing is missed
        await runtime.wake(blank, ...)
        process = await halting.halted()
    ...                                                         # dumped; then dumping.resume lets it go on

The program that follows it (halt.py) has ended by then, for nobody can follow what somebody else follows, CRIU included.
"""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from containerlib import seccomp
from containerlib.checkpoint import halt, ptrace
from containerlib.checks import SpecError

LISTEN = "listen"
FOLLOW_S, STOP_S, LOOK_EVERY_S = 10.0, 2.0, 0.001


class NotHalted(Exception):
    """It runs on, or has ended; the text says why it does not stand still."""


@dataclass(frozen=True, slots=True)
class Halting:
    process: Process
    call: str

    async def halted(self) -> int:
        """The process that stands still, once it does. Raises NotHalted, if all ended without making the call, too."""
        word = await self._read()
        await self.process.wait()  # which lets them go
        kind, _, number = word.partition(" ")
        if kind != "halted":
            raise NotHalted(f"it ended without a call of {self.call}")
        await _until_stopped(int(number))
        return int(number)

    async def followed(self) -> None:
        """Raises NotHalted."""
        try:
            async with asyncio.timeout(FOLLOW_S):
                await self._read()
        except TimeoutError:
            raise NotHalted(f"it could not be followed within {FOLLOW_S:g} s") from None

    async def _read(self) -> str:
        assert self.process.stdout is not None and self.process.stderr is not None
        if word := (await self.process.stdout.readline()).decode().strip():
            return word
        said = (await self.process.stderr.read()).decode(errors="replace").strip()
        raise NotHalted(f"it could not be followed up to {self.call}: {said or 'whoever followed it was killed'}")


@asynccontextmanager
async def following(pid: int, call: str) -> AsyncIterator[Halting]:
    """Nobody follows it any more when this is over; what was not halted then runs on. Raises NotHalted and SpecError."""
    if not ptrace.is_supported():
        raise NotHalted(f"a program can be halted before {call} on x86_64 only")
    words = (sys.executable, "-SI", halt.__file__, str(pid), str(number_of(call)))
    process = await asyncio.create_subprocess_exec(*words, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        halting = Halting(process, call)
        await halting.followed()
        yield halting
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def number_of(call: str) -> int:
    """Raises SpecError."""
    if (number := seccomp.number_of(call)) < 0:
        raise SpecError("checkpoint.before", call, "is no system call of this machine")
    return number


async def _until_stopped(process: int) -> None:
    """All its threads: the signal is on its way to them."""
    with suppress(FileNotFoundError, ProcessLookupError):  # it was killed, which shows next
        async with asyncio.timeout(STOP_S):
            while not _has_stopped(process):  # noqa: ASYNC110 - there is no event for who does not follow it
                await asyncio.sleep(LOOK_EVERY_S)


def _has_stopped(process: int) -> bool:
    states = [
        (task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{process}/task").iterdir()
    ]
    return all(state in "TZX" for state in states)
