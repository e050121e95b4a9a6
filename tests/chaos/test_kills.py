"""kill -9 of each program while two sites are under load: who notices, what goes on, what is left when the dust has settled."""

import asyncio
import time

import pytest

from dispatcher.domain import Status
from tests.acceptance.load import Load
from tests.plugins.installation import PROGRAMS, wait_for

pytestmark = pytest.mark.chaos

BEFORE_S, AFTER_S = 1.0, 2.0
BACK_S = 3.0  # a client of the killed UserProxy itself that connects again is answered within this
SLOW_START = ("sh", "-c", "sleep 1.5; exec python3 -SI /srv/site.py")


@pytest.fixture
async def sites(installation):
    """Two that run and one that sleeps. Afterwards nothing of any container may be left."""
    names = ("one", "two", "sleeper", "slow")
    async with installation.store() as store:
        known = await store.get("/fastcontainer/apps/one/spec")
    if known is None:
        for name in names:
            await installation.create(name, *(SLOW_START if name == "slow" else ()))
    await installation.wake("one")
    await installation.wake("two")
    yield names
    await installation.lives()  # an agent that was killed is back
    for name in names:
        await asyncio.to_thread(installation.cli, "stop", name)
    await installation.nothing_left(within_s=10.0)
    await rows_equal_lives(installation, names)


async def rows_equal_lives(installation, names):
    async def equal():
        lives = await installation.lives()
        told = {(live.app, live.container): live.status for live in lives.values()}
        written = {
            (name, id): row.status
            for name in names
            for id, row in (await installation.rows(name)).items()
            if row.status.is_alive()
        }
        return told == written

    await wait_for(equal, 15.0, "the rows equal the agent's truth")


def load_on(installation, name):
    return Load(installation.port, f"{name}.localhost", connections=4, rate=30)


@pytest.mark.parametrize("program", PROGRAMS)
async def test_kill_9(installation, sites, program):
    async with load_on(installation, "one") as one, load_on(installation, "two") as two:
        await asyncio.sleep(BEFORE_S)
        killed_at = time.monotonic()
        killed = installation.kill(program)
        if program == "userproxy":
            await wait_for(lambda: one.answered_since(killed_at + 0.1) and two.answered_since(killed_at + 0.1), BACK_S)
            back_s = time.monotonic() - killed_at
            print(f"userproxy: clients are answered again after {back_s:.2f} s")
        # Asked for at the worst moment, answered all the same.
        during = await installation.ask("sleeper")
        assert during.status == 200, during.raw
        await installation.restarted(program, killed)
        back = time.monotonic()
        await asyncio.sleep(AFTER_S)
        await asyncio.to_thread(installation.cli, "stop", "sleeper")
        after = await installation.ask("sleeper")
        assert after.status == 200, after.raw
    for load in (one, two):
        print(program, load.report())
        assert load.answered_since(back) > AFTER_S * 20
        if program == "userproxy":
            # Each connection of its own broke, and those made while it was away were refused.
            assert all(killed_at - 0.2 <= failed.at + failed.s <= killed_at + BACK_S for failed in load.failed)
            assert not any(failed.status for failed in load.failed), load.report()
        else:
            assert not load.failed, load.report()
        assert len(set(load.bodies)) == 1, "a container was lost"


@pytest.mark.parametrize("program", ["agent", "launcher", "etcd", "webdispatcher"])
async def test_a_wake_in_progress_is_still_answered(installation, sites, program):
    asked = asyncio.get_running_loop().create_task(installation.ask("slow"), name="slow")

    async def starting():
        return [row for row in (await installation.rows("slow")).values() if row.status is Status.STARTING]

    await wait_for(starting, 3.0)
    killed = installation.kill(program)
    response = await asked
    assert response.status == 200, response.raw
    await installation.restarted(program, killed)


async def test_agent_and_launcher_together(installation, sites):
    """A wake is under way, too."""
    async with load_on(installation, "one") as one, load_on(installation, "two") as two:
        asked = asyncio.get_running_loop().create_task(installation.ask("slow"), name="slow")
        await asyncio.sleep(0.5)
        killed = {program: installation.kill(program) for program in ("agent", "launcher")}
        response = await asked
        assert response.status == 200, response.raw
        for program, pid in killed.items():
            await installation.restarted(program, pid)
        assert (await installation.ask("sleeper")).status == 200
    for load in (one, two):
        assert not load.failed, load.report()
        assert len(set(load.bodies)) == 1


async def test_the_agent_again_and_again(installation, sites):
    """Killed ten times in a row, each time as soon as it is back; wakes and stops come in between."""
    async with load_on(installation, "one") as one:
        for number in range(10):
            killed = installation.kill("agent")
            assert (await installation.ask("sleeper")).status == 200
            await installation.restarted("agent", killed)
            if number % 3 == 2:
                await wait_for(lambda: installation.lives("sleeper"), 5.0)
                await asyncio.to_thread(installation.cli, "stop", "sleeper")
    print(one.report())
    assert not one.failed, one.report()
    assert len(set(one.bodies)) == 1
