"""kill -9 of the Web Dispatcher while requests pass through it, and of the agent behind it."""

import asyncio

import pytest

from tests.acceptance.load import Load
from tests.chaos.test_kills import SLOW_START

pytestmark = pytest.mark.chaos

SETTINGS = {"short_cut": False}


@pytest.mark.parametrize("program", ["webdispatcher", "agent"])
async def test_kill_9(installation, program):
    name = f"far-{program}"
    await installation.create(name)
    await installation.create(f"slow-{program}", *SLOW_START)
    await installation.wake(name)
    async with Load(installation.port, f"{name}.localhost", connections=4, rate=30) as load:
        asked = asyncio.get_running_loop().create_task(installation.ask(f"slow-{program}"))
        await asyncio.sleep(0.7)
        killed = installation.kill(program)
        response = await asked
        assert response.status == 200, response.raw
        await installation.restarted(program, killed)
        await asyncio.sleep(1.5)
    print(load.report())
    assert not load.failed, load.report()
    assert len(set(load.bodies)) == 1
    for each in (name, f"slow-{program}"):
        await installation.remove(each)
    await installation.nothing_left(within_s=10.0)
