"""etcd gone for a while: sites wake, drain and hand over meanwhile, and afterwards its rows are the agent's truth again."""

import asyncio
import os
import time

import httpx
import pytest

from tests.acceptance.load import Load
from tests.chaos.test_kills import rows_equal_lives
from tests.plugins.installation import wait_for

pytestmark = pytest.mark.chaos

# 60 s, as the issue has it: FASTCONTAINER_LONG=1 pytest tests/chaos/test_etcd_away.py
AWAY_S = 60.0 if os.environ.get("FASTCONTAINER_LONG") else 15.0
LIFESPAN_S = 5.0


async def test_etcd_stopped_for_a_while(installation):
    names = ("mortal", "sleepy", "woken", "idle", "asleep")
    await installation.create("mortal", lifespan_s=LIFESPAN_S, drain_grace_s=2.0)
    await installation.create("sleepy", idle_s=2.0)
    for name in ("woken", "asleep"):
        await installation.create(name)
    await installation.create("idle", idle_s=1.0)
    for name in ("mortal", "sleepy"):
        await installation.wake(name)
    async with Load(installation.port, "mortal.localhost", rate=30) as load:
        installation.stop_program("etcd")
        until = time.monotonic() + AWAY_S
        assert (await installation.ask("woken")).status == 200
        await installation.asleep("sleepy", within_s=6.0)
        assert (await installation.ask("sleepy")).status == 200
        assert (await installation.ask("idle")).status == 200
        await installation.asleep("idle", within_s=4.0)
        assert (await installation.ask("idle")).status == 200
        # The agent starts anew while it cannot ask anybody what it should do: what lives, lives; of the rest it knows nothing.
        killed = installation.kill("agent")
        await installation.restarted("agent", killed)
        assert (await installation.ask("woken")).status == 200
        unknown = await installation.ask("asleep")
        assert unknown.status == 503 and "retry-after" in unknown.headers, unknown.raw
        await asyncio.sleep(max(0.0, until - time.monotonic()))
        handed_over = len(set(load.bodies))
        installation.start_program("etcd")
        await wait_for(lambda: is_healthy(installation.settings.etcd[0]), 20.0, "etcd serves")
        await rows_equal_lives(installation, names)

        async def wakes():
            return (await installation.ask("asleep")).status == 200

        await wait_for(wakes, 10.0, "what slept can be woken again")
        await installation.create("fresh")
        assert (await installation.ask("fresh")).status == 200
    print(load.report(), f"{handed_over} lives while etcd was away")
    assert not load.failed, load.report()
    assert handed_over >= AWAY_S / LIFESPAN_S - 1
    rows = await installation.rows("mortal")
    assert len(rows) <= 2
    for name in (*names, "fresh"):
        await installation.remove(name)

    async def gone():
        return not await installation.lives() and not any([await installation.rows(name) for name in names])

    await wait_for(gone, 10.0, "removed apps are gone")


async def is_healthy(endpoint):
    """Its port is open long before it answers."""
    try:
        async with httpx.AsyncClient(timeout=1.0, trust_env=False) as client:
            return "true" in (await client.get(f"http://{endpoint}/health")).text
    except httpx.HTTPError:
        return False
