"""Memory pressure as this kernel measures it (PSI), which many hosts do not."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from containerlib import cgroups
from containerlib.cgroups import Group
from containerlib.cgroups.events import PSI, watch_pressure

pytestmark = pytest.mark.system
# What is above memory.high of a group has to wait, the longer the more it is.
GROWS = """
import sys
open(sys.argv[1], "w").write("0")
kept = []
while True:
    kept.append(bytearray(64 << 10))
"""
HIGH_BYTES = 8 << 20


@pytest.fixture
def group() -> Iterator[Group]:
    tree = cgroups.find(f"fctest-pressure-{os.getpid()}")
    group = tree.create("1")
    (directory,) = group.directories()
    (directory / "memory.high").write_text(str(HIGH_BYTES))
    yield group
    group.remove()
    tree.remove()


@pytest.mark.parametrize("level", list(PSI))
async def test_whoever_waits_for_memory_is_told_of(group: Group, level: str) -> None:
    pressed = asyncio.Event()
    watch = watch_pressure(group, level, pressed.set)
    (entrance,) = group.entrances()
    with subprocess.Popen([sys.executable, "-SIc", GROWS, entrance]) as process:  # noqa: ASYNC220 - a moment
        try:
            async with asyncio.timeout(60):
                await pressed.wait()
        except TimeoutError:
            (directory,) = group.directories()
            raise AssertionError((directory / "memory.pressure").read_text()) from None
        finally:
            process.kill()
            watch.close()


@pytest.mark.parametrize("level", list(PSI))
async def test_whoever_has_enough_is_not(group: Group, level: str) -> None:
    told: list[int] = []
    watch = watch_pressure(group, level, lambda: told.append(1))
    (entrance,) = group.entrances()
    program = "import sys\nopen(sys.argv[1], 'w').write('0')\nx = bytearray(1 << 20)"
    await asyncio.to_thread(subprocess.run, [sys.executable, "-SIc", program, entrance], check=True)
    await asyncio.sleep(2.5)  # longer than the kernel's window
    watch.close()
    assert told == []
