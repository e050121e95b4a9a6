"""Refilling the reserve keeps out of the way of the start that took a blank, unless somebody waits for one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from dispatcher.compute.pool import REST_S, Pool
from dispatcher.tasks import Tasks
from tests.fakes.runtime import FakeRuntime

FLOOR = 2


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    tasks, runtime = Tasks(), FakeRuntime()
    pool = Pool(cast(Any, runtime), FLOOR, tasks)
    pool.start()
    await _until_made(pool, FLOOR)
    yield pool
    await tasks.close()
    for container in list(runtime.containers.values()):
        await runtime.destroy(container)


async def _until_made(pool: Pool, count: int) -> None:
    async with asyncio.timeout(5):
        while pool.made < count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_no_blank_is_made_while_a_start_has_just_taken_one_of_several(pool: Pool) -> None:
    began = asyncio.get_running_loop().time()
    await pool.take()
    await _until_made(pool, FLOOR + 1)
    clock_s = 0.001  # a timer may be as much too early
    assert asyncio.get_running_loop().time() - began >= REST_S - clock_s


async def test_who_finds_the_reserve_empty_waits_for_one_blank_and_no_longer(pool: Pool) -> None:
    await pool.take()
    await asyncio.sleep(0)  # the refill has begun to rest
    await pool.take()
    async with asyncio.timeout(REST_S / 2):
        await pool.take()
