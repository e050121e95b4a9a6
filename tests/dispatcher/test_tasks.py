import asyncio
import logging

import pytest

from dispatcher.tasks import Tasks


async def test_close_ends_them_all() -> None:
    tasks = Tasks()
    running = [tasks.start(asyncio.Event().wait(), name=f"waits {number}") for number in range(3)]
    await asyncio.sleep(0)
    await tasks.close()
    assert all(task.cancelled() for task in running)


async def test_none_dies_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    async def die() -> None:
        raise RuntimeError("of hunger")

    tasks = Tasks()
    task = tasks.start(die(), name="mortal")
    with caplog.at_level(logging.ERROR):
        await asyncio.wait([task])
        await asyncio.sleep(0)
    assert "task mortal died" in caplog.text and "of hunger" in caplog.text
    await tasks.close()


async def test_what_has_ended_is_forgotten() -> None:
    tasks = Tasks()
    assert await tasks.start(asyncio.sleep(0, "done"), name="short") == "done"
    await tasks.close()


async def test_a_task_that_ends_badly_when_cancelled_does_not_stop_the_others() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("not now")

    tasks = Tasks()
    tasks.start(stubborn(), name="stubborn")
    other = tasks.start(asyncio.Event().wait(), name="other")
    await asyncio.sleep(0)
    await tasks.close()
    assert other.cancelled()
