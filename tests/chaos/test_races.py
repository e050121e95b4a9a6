"""Requests that come in the very moment in which something ends. POST where a retry would hide the fault."""

import asyncio
import random
import time

import pytest

from dispatcher.compute.link import say
from dispatcher.compute.protocol import Stop
from tests.acceptance.load import Load
from tests.chaos.test_kills import rows_equal_lives
from tests.fakes.clients import Connection
from tests.plugins.installation import wait_for

pytestmark = pytest.mark.chaos


async def test_requests_at_the_edge_of_idleness(installation):
    """Each comes about when the site is being put to sleep after the one before."""
    names = [f"edge-{number}" for number in range(6)]
    for name in names:
        await installation.create(name, idle_s=0.3)
    answers = {}

    async def ask_again_and_again(name):
        until = time.monotonic() + 12.0
        while time.monotonic() < until:
            answer = await installation.ask(name, "/", "POST", content_length="0")
            answers.setdefault(name, []).append((answer.status, answer.body))
            await asyncio.sleep(random.uniform(0.2, 0.7))

    await asyncio.gather(*(ask_again_and_again(name) for name in names))
    lives = [len({body for _, body in each}) for each in answers.values()]
    print(f"{sum(map(len, answers.values()))} requests to {sum(lives)} lives")
    assert {status for each in answers.values() for status, _ in each} == {200}
    assert sum(lives) > 20
    for name in names:
        await installation.remove(name)
    await installation.nothing_left(within_s=10.0)


async def test_short_lives_under_load_that_may_not_be_repeated(installation):
    await installation.create("brief", lifespan_s=2.0, drain_grace_s=2.0, idle_s=60.0)
    async with Load(installation.port, "brief.localhost", path="/?s=0.05", rate=40, method="POST") as load:
        await asyncio.sleep(12.0)
    print(load.report(), len(set(load.bodies)), "lives")
    assert not load.failed, load.report()
    assert len(set(load.bodies)) >= 5
    await installation.remove("brief")


async def test_a_count_that_goes_up_and_down_under_load(installation):
    await installation.create("flapping")
    await installation.wake("flapping")
    async with Load(installation.port, "flapping.localhost", path="/?s=0.05", rate=40, method="POST") as load:
        for count in (3, 1, 4, 2, 0, 1, 5, 1):
            if count:  # 0 means that nobody may be served
                installation.etcdctl("put", "/fastcontainer/apps/flapping/containers", str(count))
                await asyncio.sleep(random.uniform(0.2, 1.2))

        async def one():
            return len(await installation.lives("flapping")) == 1 and len(await installation.rows("flapping")) == 1

        await wait_for(one, 8.0)
    assert not load.failed, load.report()
    await installation.remove("flapping")


async def test_rows_and_words_that_somebody_ruins_by_hand(installation):
    await installation.create("ruined", words={"memory": "128M"})
    await installation.wake("ruined")
    async with Load(installation.port, "ruined.localhost", rate=40, method="POST") as load:
        for key, value in (
            ("containers/ruined/1", "garbage"),
            ("containers/ruined/1", '{"compute":"elsewhere","status":"running"}'),
            ("containers/ruined/nonsense", "1"),
            ("apps/ruined/spec", "{"),
            ("apps/ruined/memory", "4M"),
            ("apps/ruined/memory", "1G"),
            ("apps/ruined/uid_base", "0"),
            ("apps/ruined/containers", "-3"),
            ("domains/ruined.localhost", "No Such App"),
        ):
            installation.etcdctl("put", "--", f"/fastcontainer/{key}", value)
            await asyncio.sleep(0.3)
        installation.etcdctl("del", "/fastcontainer/containers/ruined/1")
        installation.etcdctl("del", "/fastcontainer/containers/ruined/nonsense")
        await rows_equal_lives(installation, ["ruined"])
        await asyncio.sleep(0.5)
    assert not load.failed, load.report()
    assert len(set(load.bodies)) == 1, "it was restarted"
    installation.etcdctl("del", "--prefix", "/fastcontainer/apps/ruined/")
    installation.etcdctl("del", "/fastcontainer/domains/ruined.localhost")
    await installation.asleep("ruined", within_s=10.0)
    await wait_for(lambda: gone(installation, "ruined"), 5.0)
    await installation.nothing_left(within_s=5.0)


async def gone(installation, app):
    return not await installation.rows(app)


async def test_clients_that_leave_at_once(installation):
    """The start that they caused counts for nobody: the site sleeps again."""
    await installation.create("left", "sh", "-c", "sleep 1; exec python3 -SI /srv/site.py", idle_s=1.0)
    for _ in range(100):
        connection = await Connection.open(installation.port)
        connection.send(b"GET /?s=1 HTTP/1.1\r\nHost: left.localhost\r\n\r\n")
        await connection.writer.drain()
        connection.close()
    await wait_for(lambda: installation.lives("left"), 5.0)
    await installation.asleep("left", within_s=8.0)
    starts = len(await installation.events("left", "started"))
    assert starts <= 2
    assert (await installation.ask("left")).status == 200
    await installation.remove("left")


async def test_switched_off_and_on_under_load(installation):
    await installation.create("switched")
    await installation.wake("switched")
    async with Load(installation.port, "switched.localhost", rate=40, method="POST") as load:
        for word, status in (("off", 503), ("on", 200), ("maintenance", 503), ("on", 200)):
            since = time.monotonic()
            installation.etcdctl("put", "/fastcontainer/apps/switched/switch", word)
            await wait_for(lambda: answered_with(load, status, since), 5.0, word)  # noqa: B023
        await asyncio.sleep(0.3)
    assert {failed.status for failed in load.failed} == {503}, load.report()
    await installation.remove("switched")


def answered_with(load, status, since):
    return any(sample.status == status for sample in load.samples[-5:] if sample.at > since)


async def test_wakes_leave_no_descriptor_behind(installation):
    """A forgotten one may keep a network namespace alive that nobody sees any more."""
    for name in ("clean", "failing"):
        await installation.create(name, *(() if name == "clean" else ("sh", "-c", "exit 1")))

    async def cycles(count):
        for _ in range(count):
            await asyncio.gather(installation.ask("clean"), installation.ask("failing"))
            await say(installation.settings.agent_socket, Stop(id=1, app="clean"))
        await installation.nothing_left(within_s=5.0)

    await cycles(5)
    before = installation.descriptors()
    await cycles(25)
    await wait_for(lambda: all_within(installation.descriptors(), before, 5), 5.0, f"as many as before: {before}")
    print(before, installation.descriptors())
    for name in ("clean", "failing"):
        await installation.remove(name)


def all_within(after, before, more):
    return all(after[program] <= before[program] + more for program in before)
