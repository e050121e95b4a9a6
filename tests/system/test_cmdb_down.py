"""Without the CMDB everything goes on, and afterwards it tells the truth."""

import asyncio

import pytest

from dispatcher.domain import ContainerRow, Policy, Status
from tests.plugins.compute import Host, fetch
from tests.plugins.etcd import EtcdServer

pytestmark = pytest.mark.system


async def test_wake_hand_over_and_sleep_while_etcd_is_down(own_etcd_host: tuple[Host, EtcdServer]) -> None:
    host, etcd = own_etcd_host
    (host.content / "index.html").write_text("hello")
    await host.app("asleep", policy=Policy(idle_s=0.5))
    await host.app("old", policy=Policy(lifespan_s=2, lifespan_jitter=0))
    await host.app("stays")
    await host.known("asleep")
    old = await host.wake("old")
    proxy = await host.proxy()
    proxy.traffic(old.life, 1)
    etcd.kill()

    woken = await host.wake("asleep")
    assert (await fetch(woken.address)).endswith(b"hello")
    await proxy.until_status("asleep", "1", None)
    await host.wake("asleep")
    await proxy.until_status("old", "2", Status.RUNNING)
    proxy.traffic(old.life, 0)
    await proxy.until_status("old", "1", None)
    stays = await host.wake("stays")
    await proxy.until_status("asleep", "1", None)

    etcd.start()
    await host.until_rows("asleep", lambda rows: rows == {"1": ContainerRow("here", generation=2)})
    await host.until_rows("stays", lambda rows: rows["1"].local_address == stays.address)
    await host.until_rows("old", lambda rows: list(rows)[-1] >= "2" and "1" not in rows)
    async with asyncio.timeout(10):
        kinds: list[str] = []
        while len(kinds) < 8 or kinds[-1] != "stopped":
            kinds = [event.kind for event in await host.events("asleep")]
    assert kinds == ["started", "ready", "draining", "stopped"] * 2


async def test_an_agent_that_starts_while_etcd_is_down_adopts_and_stops(own_etcd_host: tuple[Host, EtcdServer]) -> None:
    host, etcd = own_etcd_host
    (host.content / "index.html").write_text("hello")
    await host.app("blog", policy=Policy(idle_s=1))
    live = await host.wake("blog")
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.RUNNING)
    await host.detach()
    etcd.kill()
    host.kill_agent()
    await host.start_agent()
    proxy = await host.proxy()
    assert proxy.live == {("blog", "1"): live}
    assert (await fetch(live.address)).endswith(b"hello")
    await proxy.until_status("blog", "1", None)
    etcd.start()
    await host.until_rows("blog", lambda rows: rows == {"1": ContainerRow("here", generation=1)})
    assert (await host.wake("blog")).generation == 2
