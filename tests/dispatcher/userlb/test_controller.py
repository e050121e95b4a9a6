"""What the CMDB and the agent say becomes what HAProxy does."""

import asyncio
import json
import math
import os
import signal
import time
from pathlib import Path

from dispatcher.cmdb import keys
from dispatcher.compute.digest import quantile
from tests.fakes.sites import answering, quiet, read_head, text
from tests.plugins.installation import wait_for


def gated(body: bytes, gate: asyncio.Event):
    @quiet
    async def run(reader, writer) -> None:
        await read_head(reader)
        await gate.wait()
        writer.write(text(body))

    return run


async def body(world, host: str) -> bytes:
    return (await world.ask(host)).body


async def test_a_warm_app_has_a_lane_a_sleeping_one_has_none(world) -> None:
    await world.site("blog")
    await world.site("shop")
    await world.warm("blog")
    assert [await body(world, host) for host in ("blog.test", "shop.test", "other.test")] == [
        b"blog",
        b"proxy",
        b"proxy",
    ]
    assert await world.routes() == {"blog.test": "lane0"}
    world.agent.kill("blog")
    await wait_for(lambda: _is_empty(world), 3.0)
    assert await body(world, "blog.test") == b"proxy"


async def _is_empty(world) -> bool:
    return await world.routes() == {}


async def test_names_come_go_and_change_hands_without_a_restart(world) -> None:
    await world.site("blog")
    await world.site("shop")
    await world.warm("blog")
    await world.warm("shop")
    await world.put({keys.domain_key("*.more.test"): b"blog"})
    await wait_for(lambda: _leads(world, "a.more.test", b"blog"), 3.0)
    await world.put({keys.domain_key("x.more.test"): b"shop", keys.domain_key("shop.test"): b"blog"})
    await wait_for(lambda: _leads(world, "shop.test", b"blog"), 3.0)
    await wait_for(lambda: _leads(world, "x.more.test", b"shop"), 3.0)
    await world.put({keys.domain_key("*.more.test"): None, keys.domain_key("shop.test"): None})
    await wait_for(lambda: _leads(world, "a.more.test", b"proxy"), 3.0)
    await wait_for(lambda: _leads(world, "shop.test", b"proxy"), 3.0)
    assert await body(world, "x.more.test") == b"shop"


async def _leads(world, host: str, wanted: bytes) -> bool:
    return await body(world, host) == wanted


async def test_what_the_lane_cannot_do_stays_with_the_proxies(world) -> None:
    await world.site("hasty", queue_max=0)
    await world.site("blog")
    await world.agent.run("hasty")
    await world.warm("blog")
    assert await world.routes() == {"blog.test": "lane0"}
    await world.put({keys.word_key("blog", keys.Field.SWITCH): b"off"})
    await wait_for(lambda: _is_empty(world), 3.0)


async def test_a_drain_is_confirmed_when_the_slot_is_closed_with_what_is_in_flight(world) -> None:
    gate = asyncio.Event()
    await world.site("blog", gated(b"slow", gate))
    live = await world.warm("blog")
    asked = asyncio.gather(world.ask("blog.test"), world.ask("blog.test"))
    await world.agent.until(lambda: world.agent.counts.get(live.life) == 2)
    world.agent.drain("blog")
    await world.agent.until(lambda: world.agent.heard.get(live.life) == 1)
    assert world.agent.counts[live.life] == 2
    assert await body(world, "blog.test") == b"proxy"
    gate.set()
    assert [answer.body for answer in await asked] == [b"slow", b"slow"]
    await world.agent.until(lambda: world.agent.counts[live.life] == 0)


async def test_a_container_that_never_had_a_lane_is_let_go_at_once(world) -> None:
    await world.site("hasty", queue_max=0)
    live = await world.agent.run("hasty")
    world.agent.drain("hasty")
    await world.agent.until(lambda: world.agent.heard.get(live.life) == 1)
    assert world.agent.counts[live.life] == 0


async def test_traffic_is_told_though_nothing_is_in_flight_when_it_is_looked_at(world) -> None:
    await world.site("blog")
    live = await world.warm("blog")
    before = len(world.agent.traffic)
    assert await body(world, "blog.test") == b"blog"
    await world.agent.until(lambda: any(live.life in counts for counts in world.agent.traffic[before:]))


async def test_when_all_lanes_are_taken_the_least_used_goes_back(world, monkeypatch) -> None:
    monkeypatch.setattr("dispatcher.userlb.counting.SETTLING_S", 0.0)
    for app in ("blog", "shop", "wiki"):
        await world.site(app)
    await world.warm("blog")
    await world.warm("shop")
    for _ in range(3):
        await body(world, "blog.test")
    counted = world.userlb.controller._use
    await wait_for(lambda: 1.0 < counted.by_app(time.monotonic()).get("blog", 0.0) < math.inf, 3.0)
    await world.warm("wiki")
    assert {*await world.routes()} == {"blog.test", "wiki.test"}
    assert await body(world, "shop.test") == b"proxy"


async def test_haproxy_is_killed_and_comes_back_with_its_lanes(world) -> None:
    await world.site("blog")
    await world.warm("blog")
    killed = (await world.runtime.info()).pid
    os.kill(killed, signal.SIGKILL)
    await wait_for(lambda: world.userlb.controller.restarts == 1, 3.0)
    await wait_for(lambda: _has(world, "blog.test"), 5.0)
    assert (await world.runtime.info()).pid != killed
    assert await body(world, "blog.test") == b"blog"


async def _has(world, domain: str) -> bool:
    try:
        return domain in await world.routes()
    except OSError:
        return False


async def test_the_next_controller_finds_the_lanes_and_changes_only_what_has_changed(world) -> None:
    for app in ("blog", "shop"):
        await world.site(app)
        await world.warm(app)
    pid, lanes = (await world.runtime.info()).pid, await world.routes()
    await world.userlb.close(with_haproxy=False)
    assert await body(world, "blog.test") == b"blog"
    world.agent.kill("shop")
    await world.start()
    await wait_for(lambda: world.userlb.controller.passes > 1, 3.0)
    assert (await world.runtime.info()).pid == pid
    assert await world.routes() == {"blog.test": lanes["blog.test"]}
    assert [await body(world, host) for host in ("blog.test", "shop.test")] == [b"blog", b"proxy"]


async def test_response_times_are_told_by_life_and_second(world) -> None:
    @quiet
    async def slow(reader, writer) -> None:
        await read_head(reader)
        await asyncio.sleep(0.05)
        writer.write(text(b"slow"))

    await world.site("blog", slow)
    live = await world.warm("blog")
    await asyncio.gather(*(world.ask("blog.test") for _ in range(40)))
    told = world.agent.responses
    await world.agent.until(lambda: sum(each.requests for each in told.get(live.life, ())) == 40)
    digests = told[live.life]
    assert sum(each.measured for each in digests) > 0
    assert 45 < (quantile(digests, 0.5) or 0) < 200
    assert sum(each.queued for each in digests) > 0  # more than the 32 that it takes at once


async def test_each_request_is_logged_for_the_life_that_answered_it_from_the_first_on(world) -> None:
    await world.site("blog")
    for number in ("1", "2"):
        await world.warm("blog", number)
        for _ in range(4):
            await body(world, "blog.test")
    world.agent.kill("blog", "1")
    await wait_for(lambda: _slots_open(world, 1), 3.0)
    world.agent.sites["blog"].handler = answering(text(b"blog"))
    await world.warm("blog", "1")
    for _ in range(4):
        await body(world, "blog.test")
    log = Path(world.settings.log_dir, "access", "userlb.log")
    lines = await wait_for(lambda: _lines(log, 12), 3.0)
    assert [line["life"] for line in lines[:4]] == ["blog/1.1"] * 4
    assert {line["life"] for line in lines[4:8]} == {"blog/1.1", "blog/2.1"}
    assert {line["life"] for line in lines[8:]} == {"blog/1.2", "blog/2.1"}


async def _slots_open(world, count: int) -> bool:
    return sum(slot.is_open for slot in (await world.runtime.read()).slots.values()) == count


def _lines(log: Path, count: int) -> list[dict]:
    lines = list(map(json.loads, log.read_text().splitlines())) if log.exists() else []
    return lines if len(lines) >= count else []


async def test_an_app_that_asked_for_it_gets_its_times_in_the_lane_too(world) -> None:
    await world.site("blog", server_timing=True)
    await world.warm("blog")
    answer = await world.ask("blog.test")
    assert answer.body == b"blog" and answer.headers["server-timing"].startswith("queue;dur=")
