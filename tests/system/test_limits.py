"""Limits and numbers of containers, and the words that people put in their place while everything runs."""

import asyncio
import time
from collections.abc import Callable

import pytest

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.store import Delete, Put
from dispatcher.compute.protocol import Live, Refused
from dispatcher.coreapi import service
from dispatcher.domain import ContainerRow, Policy, Status
from dispatcher.problems import Code
from tests.plugins.compute import Host, fetch, python, until

pytestmark = pytest.mark.system


async def test_the_cpu_limit_takes_effect_at_readiness_and_boot_cpu_before(host: Host) -> None:
    boots = python("print('booting', flush=True); time.sleep(1); serve()")
    await host.app("blog", *boots, words={"cpu": "20%"}, policy=Policy(boot_cpu="150%"))
    waking = asyncio.get_running_loop().create_task(host.wake("blog"))
    await host.until_line("blog", "out booting")
    assert "150000" in host.cpu_limits()
    assert "20000" not in host.cpu_limits()
    live = await waking
    await until(lambda: host.cpu_limit(live) == "20000")


async def within_a_second(condition: Callable[[], bool]) -> None:
    began = time.monotonic()
    await until(condition, within_s=3)
    assert time.monotonic() - began < 1


async def test_hand_edits_change_the_running_container_within_a_second_and_without_a_restart(host: Host) -> None:
    await host.app("blog", words={"cpu": "50%", "memory": "64M"})
    live = await host.wake("blog")
    (init, *_) = await host.processes("blog")
    await host.word("blog", "cpu", "60%")
    await within_a_second(lambda: host.cpu_limit(live) == "60000")
    await host.word("blog", "memory", "128M")
    await within_a_second(lambda: host.memory_limit(live) == str(128 << 20))
    await host.word("blog", "memory", "32M")
    await within_a_second(lambda: host.memory_limit(live) == str(32 << 20))
    await host.word("blog", "cpu", None)
    await within_a_second(lambda: host.cpu_limit(live) in ("-1", "max"))
    assert (await host.processes("blog"))[0] == init
    await host.until_rows("blog", lambda rows: (rows["1"].cpu, rows["1"].memory) == ("", "32M"))
    assert (await host.event("blog", "scaled")).message


async def test_a_memory_limit_below_what_is_in_use_is_refused_by_the_kernel_and_the_old_one_stays(host: Host) -> None:
    program = "x = bytearray(64 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nserve()"
    await host.app("blog", *python(program), words={"memory": "128M"})
    live = await host.wake("blog")
    await host.word("blog", "memory", "16M")
    assert "the kernel refused the new limits" in (await host.event("blog", "refused")).message
    assert host.memory_limit(live) == str(128 << 20)
    assert await host.wake("blog") == live
    assert (await fetch(live.address)).endswith(b"ok")


async def test_three_containers_run_when_three_are_asked_for_and_one_again_after(host: Host) -> None:
    await host.app("blog")
    await host.wake("blog")
    await host.word("blog", "containers", "3")
    proxy = await host.proxy()
    await proxy.until(lambda: running(proxy.live, "blog") == 3)
    await host.until_rows("blog", lambda rows: [row.status for row in rows.values()] == [Status.RUNNING] * 3)
    assert len({live.address for live in proxy.live.values()}) == 3
    await host.word("blog", "containers", "1")
    await proxy.until(lambda: running(proxy.live, "blog") == 1 and len(proxy.live) == 1)
    await host.until_rows("blog", lambda rows: len(rows) == 1)
    assert (await fetch(next(iter(proxy.live.values())).address)).startswith(b"HTTP/1.1 404")


def running(live: dict, app: str) -> int:  # type: ignore[type-arg]
    return sum(each.app == app and each.status is Status.RUNNING for each in live.values())


async def test_three_sleeping_containers_all_wake_with_the_first_request(host: Host) -> None:
    await host.app("blog", words={"containers": "3"})
    await host.until_rows("blog", lambda rows: len(rows) == 3)
    await host.wake("blog", "2")
    proxy = await host.proxy()
    await proxy.until(lambda: running(proxy.live, "blog") == 3)


async def test_none_at_all_can_be_asked_for(host: Host) -> None:
    await host.app("blog")
    await host.wake("blog")
    await host.word("blog", "containers", "0")
    await (await host.proxy()).until_status("blog", "1", None)
    refused = await host.refused("blog")
    assert refused.code is Code.SWITCHED_OFF
    assert "is to have no containers" in refused.message
    await host.word("blog", "containers", None)
    await host.until_answer("blog")


async def test_an_app_that_is_switched_off_stops_and_does_not_wake(host: Host) -> None:
    await host.app("blog")
    await host.wake("blog")
    await host.word("blog", "switch", "off")
    await (await host.proxy()).until_status("blog", "1", None)
    assert (await host.refused("blog")).code == "switched_off"
    await host.word("blog", "switch", "on")
    await host.until_answer("blog")


async def test_a_changed_definition_gives_a_successor_before_the_old_one_goes(host: Host) -> None:
    await host.app("blog", *python("serve()"))
    await host.wake("blog")
    await host.edit("blog", env={"A": "1"})
    proxy = await host.proxy()
    await proxy.until_status("blog", "1", None)
    heard = [each for each in proxy.heard if isinstance(each, Live) and each.status is not Status.STARTING]
    states = [(each.container, each.status) for each in heard]
    assert states == [("1", Status.RUNNING), ("2", Status.RUNNING), ("1", Status.DRAINING)]
    await host.until_rows("blog", lambda rows: [*rows] == ["2"] and rows["2"].status is Status.RUNNING)
    assert list(proxy.live) == [("blog", "2")]


async def test_two_changed_definitions_in_a_row_end_in_one_container_with_the_last(host: Host) -> None:
    await host.app("blog", *python("print('A', os.environ.get('A')); time.sleep(0.2); serve()"))
    await host.wake("blog")
    proxy = await host.proxy()
    await host.edit("blog", env={"A": "1"})
    await proxy.until(lambda: ("blog", "2") in proxy.live)
    await host.edit("blog", env={"A": "2"})
    await host.until_rows("blog", lambda rows: len(rows) == 1 and "1" not in rows and "2" not in rows)
    ((_, id),) = proxy.live
    assert "out A 2" in host.lines("blog", id)
    assert int(id) <= 4


async def test_a_removed_app_goes_with_all_that_is_its(host: Host) -> None:
    await host.app("blog", *python("print('here'); serve()"))
    await host.wake("blog")
    await host.until_line("blog", "out here")
    await service.remove_app(host.store, "blog")
    await (await host.proxy()).until_status("blog", "1", None)
    await host.until_rows("blog", lambda rows: not rows)
    await until(lambda: not host.lines("blog"))
    answer = await (await host.proxy()).ensure("blog")
    assert isinstance(answer, Refused) and answer.code is Code.UNKNOWN_APP


async def test_the_row_of_a_running_container_that_somebody_deleted_or_changed_is_put_right(host: Host) -> None:
    await host.app("blog")
    live = await host.wake("blog")
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.RUNNING)
    key = keys.container_key("blog", "1")
    await host.store.commit([], [Delete(key)])
    await host.until_rows("blog", lambda rows: "1" in rows and rows["1"].local_address == live.address)
    await host.store.commit([], [Put(key, codec.encode(ContainerRow("here", generation=99)))])
    await host.until_rows("blog", lambda rows: rows["1"].local_address == live.address and rows["1"].generation == 1)
    assert len(await host.rows("blog")) == 1
    assert await host.wake("blog") == live
