"""HAProxy as a process: found, replaced without a refused connection, ended when its last request has."""

import asyncio
from dataclasses import replace

import psutil
import pytest

from dispatcher.userlb.config import Pool
from dispatcher.userlb.haproxy import Runtime
from dispatcher.userlb.process import DoesNotStart, Haproxy
from tests.fakes.sites import quiet, read_head, text
from tests.plugins.installation import wait_for


async def test_another_configuration_takes_over_under_load(world) -> None:
    before = (await world.runtime.info()).pid
    gate = asyncio.Event()

    @quiet
    async def slow(reader, writer) -> None:
        await read_head(reader)
        await gate.wait()
        writer.write(text(b"slow"))

    await world.site("slow", slow)
    await world.warm("slow")
    under_way = asyncio.gather(world.ask("slow.test"))
    await world.agent.until(lambda: any(world.agent.counts.values()))
    await world.userlb.close(with_haproxy=False)  # it would take its own back
    stop = asyncio.Event()

    async def visit() -> list[int]:
        statuses = []
        while not stop.is_set():
            statuses.append((await world.ask("other.test")).status)
        return statuses

    visitors = asyncio.gather(*(visit() for _ in range(4)))
    await asyncio.sleep(0.1)
    pool = replace(world.pool, lanes=3)
    successor = Haproxy(pool, world.runtime, ended=lambda: None)
    try:
        assert await successor.obtain()
        assert (await world.runtime.info()).pid != before
        assert not await successor.obtain()
        await asyncio.sleep(0.1)
        stop.set()
        statuses = [status for each in await visitors for status in each]
        assert len(statuses) > 20 and set(statuses) == {200}
        gate.set()
        assert (await under_way)[0].body == b"slow"
        await wait_for(lambda: not psutil.pid_exists(before) or _is_zombie(before), 5.0)
    finally:
        await successor.stop()


def _is_zombie(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_what_does_not_start_says_why(tmp_path) -> None:
    pool = Pool(("127.0.0.1:1:2",), ("127.0.0.1:1",), (), str(tmp_path), lanes=1)
    with pytest.raises(DoesNotStart, match=r"127\.0\.0\.1:1:2"):
        await Haproxy(pool, Runtime(pool), ended=lambda: None).obtain()
