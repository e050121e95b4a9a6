"""A site that is awake is answered without a proxy of ours in between, for as long as it is awake and not a moment longer."""

import asyncio
import json
import os
import signal
import urllib.request
from pathlib import Path

import pytest

from dispatcher.userlb.config import COLD, Pool
from dispatcher.userlb.haproxy import Runtime
from tests.acceptance.load import Load
from tests.fakes.ports import free_port
from tests.plugins.installation import wait_for

pytestmark = pytest.mark.system

SETTINGS = {"userlb_listen": f"127.0.0.1:{free_port()}"}


def runtime(installation) -> Runtime:
    return Runtime(Pool((), (), (), installation.settings.userlb_dir))


async def routes(installation) -> dict[str, str]:
    found = (await runtime(installation).read()).routes
    return {domain: lane for domain, lane in found.items() if lane != COLD}


async def lane_of(installation, app: str) -> str:
    async def lane() -> str:
        return (await routes(installation)).get(f"{app}.localhost", "")

    return await wait_for(lane, 3.0, f"{app} has a lane")


def logged(installation, role: str, app: str) -> list[dict]:
    path = Path(installation.settings.log_dir, "access", f"{role}.log")
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return [line for line in lines if line.get("app") == app]


def metrics(installation) -> str:
    with urllib.request.urlopen(f"http://{installation.settings.userlb_metrics}/metrics", timeout=5) as answer:
        return answer.read().decode()


async def test_a_cold_request_wakes_the_next_ones_have_a_lane_and_silence_takes_it_back(installation):
    await installation.create("blog", idle_s=2.0)
    assert await routes(installation) == {}
    first = await installation.ask("blog")
    assert first.status == 200
    await lane_of(installation, "blog")
    answers = [await installation.ask("blog", f"/?number={number}") for number in range(5)]
    assert [answer.body for answer in answers] == [first.body] * 5
    lines = await wait_for(lambda: logged(installation, "userlb", "blog"), 3.0)
    (live,) = await installation.running("blog")
    assert {(line["life"], line["via"], line["status"], line["outcome"]) for line in lines} == {
        (live.life, "lane", 200, "passed")
    }
    assert [line["path"] for line in lines] == [f"/?number={number}" for number in range(5)]
    assert len([line for line in logged(installation, "userproxy", "blog") if line["status"] == 200]) == 1
    assert "fastcontainer_userlb_lanes 1.0" in await asyncio.to_thread(metrics, installation)
    await installation.asleep("blog", within_s=6.0)
    assert await routes(installation) == {}
    again = await installation.ask("blog")
    assert again.status == 200 and again.body != first.body
    await installation.remove("blog")


async def test_traffic_in_its_lane_keeps_a_site_awake(installation):
    await installation.create("busy", idle_s=1.2)
    first = await installation.ask("busy")
    await lane_of(installation, "busy")
    answers = [await installation.ask("busy", "/?s=0.5") for _ in range(4)]
    assert {answer.body for answer in answers} == {first.body}
    assert len(logged(installation, "userproxy", "busy")) <= 2
    # One request alone, longer than it may be idle.
    assert (await installation.ask("busy", "/?s=2.5")).body == first.body
    await installation.remove("busy")


async def test_its_containers_are_killed_one_after_the_other_and_no_visitor_notices(installation):
    """Each once: what dies again before it has proven itself is not started at once."""
    await installation.create("mortal", words={"containers": "3"})
    await installation.ask("mortal")
    await wait_for(lambda: _has_slots(installation, 3), 8.0)
    async with Load(installation.port, "mortal.localhost", connections=16, rate=400.0) as load:
        for live in await installation.running("mortal"):
            await asyncio.sleep(0.3)
            os.kill(min(installation.pids_of(live)), signal.SIGKILL)
        await wait_for(lambda: _has_slots(installation, 3), 8.0)
    print(load.report())
    assert load.failed == []
    assert len(set(load.bodies)) >= 5
    await wait_for(lambda: len(logged(installation, "userlb", "mortal")) > len(load.samples) / 2, 3.0)
    await installation.remove("mortal")


async def _has_slots(installation, count: int) -> bool:
    return sum(slot.is_open for slot in (await runtime(installation).read()).slots.values()) == count


async def test_the_only_container_is_killed_and_its_visitors_wait_for_the_next(installation):
    await installation.create("alone")
    await installation.ask("alone")
    await lane_of(installation, "alone")
    async with Load(installation.port, "alone.localhost", connections=16, rate=400.0) as load:
        await asyncio.sleep(0.3)
        (live,) = await installation.running("alone")
        os.kill(min(installation.pids_of(live)), signal.SIGKILL)
        await wait_for(lambda: len(set(load.bodies)) == 2, 5.0)
        await lane_of(installation, "alone")
    print(load.report())
    assert load.failed == []
    await installation.remove("alone")


async def test_haproxy_the_controller_and_the_userproxy_are_killed_under_load(installation):
    await installation.create("steady")
    first = await installation.ask("steady")
    await lane_of(installation, "steady")
    haproxy = (await runtime(installation).info()).pid
    async with Load(installation.port, "steady.localhost", connections=8, rate=200.0) as load:
        killed = installation.kill("userlb")
        await installation.restarted("userlb", killed)
        await wait_for(lambda: _takes_requests(installation, "steady"), 8.0)
        assert (await runtime(installation).info()).pid == haproxy
        await installation.restarted("userlb", installation.kill("userlb", signal.SIGTERM))
        await wait_for(lambda: _takes_requests(installation, "steady"), 8.0)
        installation.kill("userproxy")  # whom a warm site does not need
        await asyncio.sleep(0.5)
    print(load.report())
    assert load.failed == []
    assert set(load.bodies) == {first.body}
    os.kill(haproxy, signal.SIGKILL)
    await wait_for(lambda: _takes_requests(installation, "steady"), 8.0)
    assert (await runtime(installation).info()).pid != haproxy
    await installation.remove("steady")


async def _takes_requests(installation, app: str) -> bool:
    """In its lane."""
    before = len(logged(installation, "userlb", app))
    try:
        await installation.ask(app)
    except (OSError, asyncio.IncompleteReadError):
        return False
    await asyncio.sleep(0.25)  # as long as a line of the log may be kept back
    return len(logged(installation, "userlb", app)) > before
