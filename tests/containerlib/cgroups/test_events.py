"""The kernel's word on a group's memory."""

import asyncio
import os
import subprocess
from collections.abc import Iterator

import pytest

from containerlib import cgroups
from containerlib.cgroups import Group
from containerlib.cgroups.events import watch_oom, watch_pressure

pytestmark = pytest.mark.system
EATS = """
import sys
for path in sys.argv[1:]:
    open(path, "w").write("0")
x = bytearray(64 << 20)
"""


@pytest.fixture
def group() -> Iterator[Group]:
    tree = cgroups.find(f"fctest-events-{os.getpid()}")
    group = tree.create("1")
    group.set_memory(32 << 20)
    yield group
    group.remove()
    tree.remove()


def _eat(group: Group) -> int:
    command = ["/usr/bin/python3", "-SIc", EATS, *group.entrances()]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode


async def eat(group: Group) -> int:
    """The exit code of a process that wants twice what there is."""
    return await asyncio.to_thread(_eat, group)


async def test_of_a_kill_it_is_told_once(group: Group) -> None:
    killed = asyncio.Event()
    told: list[int] = []
    watch = watch_oom(group, lambda: (told.append(1), killed.set()))  # type: ignore[func-returns-value,arg-type]
    try:
        assert await eat(group) == -9
        async with asyncio.timeout(5):
            await killed.wait()
        await asyncio.sleep(0)
        assert told == [1]
    finally:
        watch.close()


async def test_of_pressure_it_is_told(group: Group) -> None:
    pressed = asyncio.Event()
    watch = watch_pressure(group, "low", pressed.set)
    try:
        await eat(group)
        async with asyncio.timeout(5):
            await pressed.wait()
    finally:
        watch.close()


@pytest.mark.parametrize("level", ["low", "medium", "critical"])
async def test_every_level_can_be_watched_here(group: Group, level: str) -> None:
    watch_pressure(group, level, lambda: None).close()


async def test_the_end_of_a_group_is_no_kill(group: Group) -> None:
    told: list[int] = []
    watch = watch_oom(group, lambda: told.append(1))
    group.remove()
    for _ in range(5):
        await asyncio.sleep(0.002)
    watch.close()
    assert told == []


async def test_nothing_is_told_after_its_end(group: Group) -> None:
    told: list[int] = []
    watch_oom(group, lambda: told.append(1)).close()
    await eat(group)
    await asyncio.sleep(0)
    assert told == []
