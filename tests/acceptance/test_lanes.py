"""A site that is awake is answered without a proxy of ours in between, for as long as it is awake and not a moment longer."""

import json
from pathlib import Path

import pytest

from dispatcher.userlb.config import COLD, Pool
from dispatcher.userlb.haproxy import Runtime
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
