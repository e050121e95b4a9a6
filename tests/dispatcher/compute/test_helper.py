"""The process that works in containers' namespaces dies, and there is another one."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from containerlib.standalone.hands import Hands
from dispatcher.compute import helper as helper_module
from dispatcher.compute.helper import Helper
from dispatcher.tasks import Tasks
from tests.plugins.compute import until

pytestmark = pytest.mark.system


@pytest.fixture
async def helper() -> AsyncIterator[Helper]:
    tasks = Tasks()
    helper = Helper(tasks)
    helper.start()
    yield helper
    await tasks.close()
    helper.close()


async def test_one_that_is_killed_is_replaced(helper: Helper) -> None:
    first = helper.hands
    await asyncio.sleep(0)
    os.kill(first._pid, signal.SIGKILL)
    await until(lambda: helper.hands is not first)
    assert not helper.hands.died.is_set()


async def test_where_none_can_be_started_it_is_tried_again(helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    executed = Hands.executed

    def no_memory() -> Hands:
        tried.append(1)
        if len(tried) < 3:
            raise OSError("no memory")
        return executed()

    monkeypatch.setattr(Hands, "executed", no_memory)
    monkeypatch.setattr(helper_module, "RETRY_S", 0.01)
    first = helper.hands
    await asyncio.sleep(0)
    os.kill(first._pid, signal.SIGKILL)
    await until(lambda: helper.hands is not first)
    assert len(tried) == 3
