"""Holding without sockets: races and bounds."""

import asyncio
import random
import time

import pytest

from addons.holding import FUTILE_STARTS_MAX, ClientLeft, Holding
from addons.routing import Backend
from dispatcher.domain import App, AppSpec, Policy
from dispatcher.problems import Code, Problem


class Containers:
    def __init__(self):
        self.up = []
        self.starts = 0
        self.gate = asyncio.Event()
        self.problem = None
        self.remote = None
        self.comes_up = True

    def running(self, app):
        return self.up

    def to_wake(self, app, wanted):
        return self.remote or "1"

    async def start(self, app, container, detail):
        self.starts += 1
        await self.gate.wait()
        if self.problem:
            raise self.problem
        if self.comes_up:
            self.up = [backend()]
        return {"exec": 1.0}


def backend(number="1", *, concurrency=2, remote=False):
    life = "" if remote else f"blog/{number}.1"
    return Backend("blog", number, "here", ("127.0.0.1", 80), life, concurrency, remote)


APP = App("blog", AppSpec(command=("x",), policy=Policy(queue_max=5)))


@pytest.fixture
async def containers():
    return Containers()


@pytest.fixture
async def holding(containers):
    holding = Holding(containers, held_max=8, in_flight={}, rng=random.Random(1), clock=time.monotonic)
    yield holding
    assert holding.held == 0
    assert holding._apps == {}
    assert holding._by_key == {}
    await holding.close()


def ask(holding, key, *, app=APP, within_s=5.0):
    asked = holding.acquire(app, key=key, deadline=time.monotonic() + within_s, detail="")
    return asyncio.get_running_loop().create_task(asked)


async def test_first_come_first_served(holding, containers):
    asked = [ask(holding, str(i)) for i in range(5)]
    await asyncio.sleep(0)
    containers.gate.set()
    order = []
    for i, task in enumerate(asked):
        task.add_done_callback(lambda _, i=i: order.append(i))
    for i in range(5):
        grant = await asked[i]
        assert grant.woke
        assert grant.phases == {"exec": 1.0}
        assert len(order) <= i + 2
        holding.answered("blog", grant.backend)
    assert order == [0, 1, 2, 3, 4]
    assert containers.starts == 1


async def test_bounds_per_app_and_in_total(holding, containers):
    asked = [ask(holding, str(i)) for i in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Problem) as caught:
        await ask(holding, "6")
    assert caught.value.code is Code.QUEUE_FULL
    other = App("shop", APP.spec)
    more = [ask(holding, f"shop{i}", app=other) for i in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Problem, match="this proxy"):
        await ask(holding, "shop4", app=other)
    containers.problem = Problem(Code.START_FAILED, "no")
    containers.gate.set()
    outcomes = await asyncio.gather(*asked, *more, return_exceptions=True)
    assert [outcome.code for outcome in outcomes] == [Code.START_FAILED] * 8


async def test_leaving(holding, containers):
    first, second = ask(holding, "1"), ask(holding, "2")
    await asyncio.sleep(0)
    holding.leave("1")
    holding.leave("nobody")
    with pytest.raises(ClientLeft):
        await first
    containers.gate.set()
    holding.answered("blog", (await second).backend)


async def test_a_grant_in_the_moment_of_leaving_is_given_back(holding, containers):
    asked = ask(holding, "1")
    await asyncio.sleep(0)
    containers.up = [backend(concurrency=1)]
    holding.changed("blog")  # granted, but its task has not run yet
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    grant = await ask(holding, "2")
    holding.answered("blog", grant.backend)
    containers.gate.set()
    await asyncio.sleep(0.01)


async def test_a_container_that_dies_at_once_is_not_started_for_ever(holding, containers):
    containers.comes_up = False
    containers.gate.set()
    with pytest.raises(Problem) as caught:
        await ask(holding, "1")
    assert caught.value.code is Code.CONTAINER_DIED
    assert containers.starts == FUTILE_STARTS_MAX


async def test_the_deadline_says_what_was_waited_for(holding, containers):
    with pytest.raises(Problem) as caught:
        await ask(holding, "1", within_s=0.01)
    assert caught.value.code is Code.START_TIMEOUT
    containers.gate.set()
    await asyncio.sleep(0.01)
    containers.up = [backend(concurrency=1)]
    grant = await ask(holding, "2")
    with pytest.raises(Problem) as caught:
        await ask(holding, "3", within_s=0.01)
    assert caught.value.code is Code.DEADLINE
    holding.answered("blog", grant.backend)


async def test_another_host_is_passed_to_at_once_and_bounded(holding, containers):
    containers.remote = backend(concurrency=5, remote=True)
    grants = [await ask(holding, str(i)) for i in range(5)]
    assert {grant.backend for grant in grants} == {containers.remote}
    with pytest.raises(Problem) as caught:
        await ask(holding, "6")
    assert caught.value.code is Code.QUEUE_FULL
    for grant in grants:
        holding.answered("blog", grant.backend)
    assert containers.starts == 0


async def test_a_second_container_takes_what_the_first_cannot(holding, containers):
    containers.up = [backend(concurrency=1)]
    first = await ask(holding, "1")
    second = ask(holding, "2")
    await asyncio.sleep(0)
    assert not second.done()
    containers.up = [backend(concurrency=1), backend("2", concurrency=1)]
    holding.changed("blog")
    assert (await second).backend.container == "2"
    holding.answered("blog", first.backend)
    holding.answered("blog", (await second).backend)
