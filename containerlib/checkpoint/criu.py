"""The CRIU of this host: found, tried, run within a time limit, and its long logs cut to the lines that say what was wrong.

It is an optional program: without it nothing can be restored, and everything else works.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from containerlib.checkpoint.log import essence

VARIABLE = "FASTCONTAINER_CRIU"
# Root's: what lies here is run as root.
UNPACKED = Path("/var/cache/fastcontainer/criu")
OLDEST = (4, 2)  # 3.17 cannot read the vDSO of Linux 6.18, 4.1 not its routes' socket options
CHECK_TIMEOUT_S = 20.0


class Unavailable(Exception):
    """No CRIU that works here. The text says what to do."""


class CriuFailed(Exception):
    """A dump or a restore that went wrong; the text holds what CRIU's own log says of it."""


@dataclass(frozen=True, slots=True)
class Criu:
    """`command`: how it is started, its own dynamic loader included where it was unpacked and not installed."""

    command: tuple[str, ...]
    version: str


def unpacked_command(directory: Path) -> tuple[str, ...] | None:
    """Of packages that were unpacked there: with the libraries that came with it, not with this host's."""
    program = directory / "usr/sbin/criu"
    loaders = sorted(directory.glob("usr/lib*/ld-linux-*.so.*")) + sorted(directory.glob("usr/lib/*/ld-linux-*.so.*"))
    libraries = sorted(directory.glob("usr/lib/*-linux-gnu*"))
    if not (program.is_file() and loaders and libraries):
        return None
    return (str(loaders[0]), "--library-path", str(libraries[0]), str(program))


def find(environment: Mapping[str, str] = os.environ) -> Criu:
    """`FASTCONTAINER_CRIU` (a program, or a directory of unpacked packages), else what quickstart has unpacked, else the one in
    PATH. Blocks for milliseconds. Raises Unavailable."""
    named = environment.get(VARIABLE)
    candidates = [Path(named)] if named else [UNPACKED]
    commands = [_command(each) for each in candidates]
    if not named and (installed := shutil.which("criu", path=environment.get("PATH"))):
        commands.append((installed,))
    seen = []
    for command in filter(None, commands):
        version = _version(command)
        if version is not None and parse_version(version) >= OLDEST:
            return Criu(command, version)
        seen.append(f"{command[-1]} is {version or 'no CRIU that runs'}")
    oldest = ".".join(map(str, OLDEST))
    found = f"{'; '.join(seen)}, and {oldest} is needed" if seen else f"no CRIU in {named or UNPACKED} or in PATH"
    raise Unavailable(f"{found}: run ./quickstart, which unpacks one, or set {VARIABLE} to a CRIU {oldest} or newer")


def _command(path: Path) -> tuple[str, ...] | None:
    if path.is_dir():
        return unpacked_command(path)
    return (str(path),) if os.access(path, os.X_OK) else None


def parse_version(word: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", word)[:3])


def _version(command: tuple[str, ...]) -> str | None:
    try:
        done = subprocess.run((*command, "--version"), capture_output=True, text=True, timeout=CHECK_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"^Version: (\S+)", done.stdout, re.MULTILINE)
    return match[1] if match and done.returncode == 0 else None


def check(criu: Criu) -> str:
    """What CRIU says is missing in this kernel; empty if it works. Needs root."""
    try:
        done = subprocess.run((*criu.command, "check"), capture_output=True, text=True, timeout=CHECK_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"its check did not end within {CHECK_TIMEOUT_S:g} s"
    return (
        "" if done.returncode == 0 else essence(done.stdout + done.stderr) or f"its check ended with {done.returncode}"
    )


async def run(criu: Criu, arguments: Sequence[str], log: Path, timeout_s: float) -> None:
    """In a session of its own, killed with all that it started when it takes too long or nobody waits any more. `log`: where its
    arguments have it write. Raises CriuFailed."""
    process = await asyncio.create_subprocess_exec(
        *criu.command,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            status = await process.wait()
    except TimeoutError:
        raise CriuFailed(f"criu {arguments[0]} took longer than {timeout_s:g} s: {essence_of(log)}") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status:
        raise CriuFailed(f"criu {arguments[0]} ended with {status}: {essence_of(log)}")


def essence_of(log: Path) -> str:
    try:
        return essence(log.read_text(errors="replace")) or "its log names no error"
    except OSError:
        return "it left no log"
