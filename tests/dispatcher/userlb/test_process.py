"""HAProxy as a process: found, replaced without a refused connection, ended when its last request has."""

import asyncio
from dataclasses import replace

import pytest

from dispatcher.userlb.config import Pool
from dispatcher.userlb.haproxy import Runtime
from dispatcher.userlb.process import DoesNotStart, Haproxy
from tests.fakes.sites import quiet, read_head, text


async def test_another_configuration_takes_over_under_load(world) -> None:
    """A request that the one before still has counts until it ends; who comes meanwhile notices nothing."""
    before = (await world.runtime.info()).pid
    gate = asyncio.Event()

    @quiet
    async def slow(reader, writer) -> None:
        await read_head(reader)
        await gate.wait()
        writer.write(text(b"slow"))

    await world.site("slow", slow)
    live = await world.warm("slow")
    under_way = asyncio.gather(world.ask("slow.test"))
    await world.agent.until(lambda: world.agent.counts.get(live.life) == 1)
    stop = asyncio.Event()

    async def visit() -> list[int]:
        statuses = []
        while not stop.is_set():
            statuses.append((await world.ask("other.test")).status)
        return statuses

    visitors = asyncio.gather(*(visit() for _ in range(4)))
    await world.userlb.close(with_haproxy=False)
    world.agent.counts.clear()
    world.pool = replace(world.pool, lanes=3)
    await world.start()
    assert (await world.runtime.info()).pid != before
    await world.agent.until(lambda: world.agent.counts.get(live.life) == 1)
    world.agent.drain("slow")
    await world.agent.until(lambda: world.agent.heard.get(live.life) == 1)
    assert world.agent.counts[live.life] == 1
    stop.set()
    statuses = [status for each in await visitors for status in each]
    assert len(statuses) > 20 and set(statuses) == {200}
    gate.set()
    assert (await under_way)[0].body == b"slow"
    await world.agent.until(lambda: world.agent.counts[live.life] == 0)
    assert not world.userlb.controller.haproxy.former


async def test_what_does_not_start_says_why(tmp_path) -> None:
    pool = Pool(("127.0.0.1:1:2",), ("127.0.0.1:1",), (), str(tmp_path), lanes=1)
    with pytest.raises(DoesNotStart, match=r"127\.0\.0\.1:1:2"):
        await Haproxy(pool, Runtime(pool), ended=lambda: None).obtain()
