"""A day of wakes, written as an agent writes it, does not fill etcd."""

import json

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.client import EtcdStore
from dispatcher.cmdb.events import EventLog
from dispatcher.cmdb.store import Put
from dispatcher.domain import ContainerRow, EventRow, Status
from dispatcher.quickstart.programs import etcd_command
from dispatcher.settings import Settings

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
            life = {"generation": generation, "started": now, "expires": now + 86400, "reason": "request"}
            limits = {"cpu": "60%", "memory": "256M", "image": "0123456789abcdef"}
            awake = ContainerRow("here", Status.RUNNING, local_address="100.96.0.9:80", **life, **limits)
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
