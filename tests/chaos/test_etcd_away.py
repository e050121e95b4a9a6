"""etcd gone for a while: sites wake, drain and hand over meanwhile, and afterwards its rows are the agent's truth again."""

import asyncio
import json
import os
import time

import pytest

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.client import EtcdStore
from dispatcher.cmdb.events import EventLog
from dispatcher.cmdb.store import Put
from dispatcher.domain import ContainerRow, EventRow, Status
from dispatcher.quickstart.programs import etcd_command
from dispatcher.settings import Settings
from tests.acceptance.load import Load
from tests.chaos.test_kills import rows_equal_lives
from tests.plugins.installation import wait_for

pytestmark = pytest.mark.chaos

# 60 s, as the issue has it: FASTCONTAINER_LONG=1 pytest tests/chaos/test_etcd_away.py
AWAY_S = 60.0 if os.environ.get("FASTCONTAINER_LONG") else 15.0
LIFESPAN_S = 5.0


async def test_etcd_stopped_for_a_while(installation):
    names = ("mortal", "sleepy", "woken", "idle", "killed")
    await installation.create("mortal", lifespan_s=LIFESPAN_S, drain_grace_s=2.0)
    await installation.create("sleepy", idle_s=2.0)
    for name in ("woken", "killed"):
        await installation.create(name)
    await installation.create("idle", idle_s=1.0)
    for name in ("mortal", "sleepy", "killed"):
        await installation.wake(name)
    async with Load(installation.port, "mortal.localhost", rate=30) as load:
        installation.stop_program("etcd")
        until = time.monotonic() + AWAY_S
        assert (await installation.ask("woken")).status == 200
        await installation.asleep("sleepy", within_s=6.0)
        assert (await installation.ask("sleepy")).status == 200
        assert (await installation.ask("idle")).status == 200
        # The agent starts anew while it cannot ask anybody what it should do.
        killed = installation.kill("agent")
        await installation.restarted("agent", killed)
        assert (await installation.ask("woken")).status == 200
        await installation.asleep("idle", within_s=8.0)
        assert (await installation.ask("idle")).status == 200
        await asyncio.sleep(max(0.0, until - time.monotonic()))
        handed_over = len(set(load.bodies))
        installation.start_program("etcd")
        await rows_equal_lives(installation, names)
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


WAKES, APPS, HOURS = 20_000, 100, 24


async def test_a_day_of_wakes_does_not_fill_etcd(new_etcd):
    """What an agent writes for each wake and sleep, at speed, with the compaction that quickstart's etcd does every hour."""
    assert "--auto-compaction-mode=periodic" in etcd_command(Settings())
    server = new_etcd()
    store = EtcdStore(Settings(etcd=(server.endpoint,)))
    log = EventLog(store, "here")
    try:
        sizes = []
        for hour in range(HOURS):
            await an_hour(store, log, hour)
            server.ctl("compact", str(server.revision()))
            sizes.append(db_bytes(server))
        print(f"db after each simulated hour, MiB: {[round(size / (1 << 20), 1) for size in sizes]}")
    finally:
        await log.close()
        await store.close()
    assert log.dropped == 0
    # It grows while the histories fill up to their bound, and then no more.
    assert sizes[-1] < 64 << 20
    assert sizes[-1] - sizes[HOURS // 2] < 8 << 20


async def an_hour(store, log, hour):
    wakes = WAKES // HOURS
    for first in range(0, wakes, 25):
        operations = []
        for number in range(first, min(first + 25, wakes)):
            app, generation, now = f"app-{number % APPS}", hour * wakes + number, hour * 3600.0 + number
            asleep = ContainerRow("here", generation=generation)
            awake = ContainerRow(
                "here", Status.RUNNING, generation, "", "100.96.0.9:80", "60%", "256M", "0123456789abcdef", now, now + 86400, "request"
            )  # fmt: skip
            operations.append((keys.container_key(app, "1"), codec.encode(awake), codec.encode(asleep)))
            for kind in ("started", "ready", "draining", "stopped"):
                log.record(
                    app, EventRow(now, kind, "request: GET www.example.com/index.html", "1", f"{app}/1.{generation}")
                )
        for which in (1, 1, 1, 2):  # starting, running, draining, registered: each a revision of its own
            seen = {}
            for operation in operations:
                seen[operation[0]] = Put(operation[0], operation[which])
            await store.commit([], list(seen.values()))
        await log.flush()


def db_bytes(server):
    return json.loads(server.ctl("endpoint", "status", "--write-out", "json"))[0]["Status"]["dbSize"]
