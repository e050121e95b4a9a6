"""Blanks in reserve, made by a fake."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from containerlib.handle import StartFailed
from dispatcher.compute import pool as pool_module
from dispatcher.compute.pool import AT_ONCE, CEILING, DEMAND_WINDOW_S, Pool
from dispatcher.tasks import Tasks
from tests.fakes.runtime import FakeContainer, FakeRuntime
from tests.plugins.compute import until


class Lab:
    def __init__(self, floor: int = 2) -> None:
        self.runtime = FakeRuntime()
        self.tasks = Tasks()
        self.pool = Pool(self.runtime, floor, self.tasks)  # type: ignore[arg-type]

    async def close(self) -> None:
        await self.tasks.close()
        await self.pool.close()
        for container in list(self.runtime.containers.values()):
            await self.runtime.destroy(container)


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    monkeypatch.setattr(pool_module, "RETRY_S", 0.005)
    lab = Lab()
    yield lab
    await lab.close()


async def test_the_floor_is_kept(lab: Lab) -> None:
    lab.pool.start()
    await until(lambda: lab.pool.ready == 2)
    first = await lab.pool.take()
    assert lab.pool.ready == 1
    await until(lambda: lab.pool.ready == 2)
    assert first.slot not in [blank.slot for blank in lab.pool._ready]


async def test_whoever_comes_to_an_empty_pool_is_served_in_order(lab: Lab) -> None:
    takers = [asyncio.create_task(lab.pool.take()) for _ in range(5)]  # noqa: TID251
    await asyncio.sleep(0)
    lab.pool.start()
    blanks = [await taker for taker in takers]
    assert [blank.slot for blank in blanks] == [2, 3, 4, 5, 6]


async def test_after_a_burst_as_many_stand_ready_for_the_next(lab: Lab) -> None:
    lab.pool.start()
    for _ in range(10):
        await lab.pool.take()
    await until(lambda: lab.pool.ready == 10)


async def test_several_are_made_at_a_time_and_no_more_than_are_wanted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, most, gate = 0, 0, asyncio.Event()
    make = lab.runtime.make_blank

    async def slow() -> object:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await gate.wait()
        at_once -= 1
        return await make()

    monkeypatch.setattr(lab.runtime, "make_blank", slow)
    takers = [asyncio.create_task(lab.pool.take()) for _ in range(AT_ONCE + 3)]  # noqa: TID251
    await asyncio.sleep(0)
    lab.pool.start()
    await until(lambda: at_once == AT_ONCE)
    gate.set()
    await asyncio.gather(*takers)
    assert most == AT_ONCE
    await until(lambda: lab.pool.ready == AT_ONCE + 3)
    assert lab.pool.made == 2 * (AT_ONCE + 3)


async def test_demand_is_forgotten_and_the_reserve_shrinks(lab: Lab) -> None:
    lab.pool.start()
    for _ in range(6):
        await lab.pool.take()
    await until(lambda: lab.pool.ready == 6)
    later = asyncio.get_running_loop().time() + DEMAND_WINDOW_S + 1
    assert lab.pool.target(later) == 2
    await lab.pool.shrink(later)
    assert lab.pool.ready == 2


async def test_the_reserve_has_a_ceiling(lab: Lab) -> None:
    now = asyncio.get_running_loop().time()
    lab.pool._taken.extend([now] * 500)
    assert lab.pool.target(now) == CEILING


async def test_a_blank_that_died_in_reserve_is_given_to_nobody(lab: Lab) -> None:
    lab.pool.start()
    await until(lambda: lab.pool.ready == 2)
    dead = lab.runtime.containers[2]
    dead.end(9)
    assert (await lab.pool.take()).slot == 3
    assert dead.is_closed


async def test_the_reserve_is_filled_again_after_its_dead_were_found(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is cleared away another is made, which the same request takes."""
    lab.pool.start()
    await until(lambda: lab.pool.ready == 2)
    for blank in list(lab.runtime.containers.values()):
        blank.end(9)
    destroy = lab.runtime.destroy

    async def slow(blank: FakeContainer) -> None:
        made = lab.pool.made
        await until(lambda: lab.pool.made > made)
        await destroy(blank)

    monkeypatch.setattr(lab.runtime, "destroy", slow)
    await lab.pool.take()
    monkeypatch.undo()
    await until(lambda: lab.pool.ready == 2)


@pytest.mark.parametrize(
    "error", [OSError("no launcher listens"), StartFailed("died"), TimeoutError(), ValueError("too few descriptors")]
)
async def test_what_cannot_be_made_is_tried_again(lab: Lab, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    lab.runtime.failing = error
    taker = asyncio.create_task(lab.pool.take())  # noqa: TID251
    lab.pool.start()
    await until(lambda: lab.runtime.refused >= 3)
    assert caplog.text.count("no blank can be made") == 1
    assert not taker.done()
    lab.runtime.failing = None
    assert (await taker).slot == 2


async def test_who_gives_up_waiting_takes_no_blank_with_him(lab: Lab) -> None:
    taker = asyncio.create_task(lab.pool.take())  # noqa: TID251
    await asyncio.sleep(0)
    taker.cancel()
    lab.pool.start()
    await until(lambda: lab.pool.ready == 2)
    assert lab.pool.made == 2


async def test_who_gives_up_at_the_very_moment_gives_his_blank_back(lab: Lab) -> None:
    taker = asyncio.create_task(lab.pool.take())  # noqa: TID251
    await asyncio.sleep(0)
    lab.pool._hand_over(await lab.runtime.make_blank())  # type: ignore[arg-type]
    taker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taker
    assert lab.pool.ready == 1


async def test_blanks_with_an_older_etc_are_replaced(lab: Lab) -> None:
    lab.pool.start()
    await until(lambda: lab.pool.ready == 2)
    lab.runtime.image = "etc-2"
    await lab.pool.discard_stale("etc-2")
    await until(lambda: lab.pool.ready == 2)
    assert {blank.etc_image for blank in lab.pool._ready} == {"etc-2"}
    made = lab.pool.made
    await lab.pool.discard_stale("etc-2")
    assert lab.pool.made == made


async def test_closing_leaves_nothing(lab: Lab) -> None:
    lab.pool.start()
    await until(lambda: lab.pool.ready == 2)
    await lab.close()
    assert lab.runtime.containers == {}
