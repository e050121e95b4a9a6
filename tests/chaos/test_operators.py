"""What an unlucky or hostile operator does to an installation in use."""

import asyncio
import os
import random
import signal
import subprocess
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dispatcher.coreapi import service
from tests.acceptance.load import Load
from tests.chaos.test_kills import SLOW_START, rows_equal_lives
from tests.fakes.clients import Connection, ask
from tests.fakes.ports import free_port
from tests.plugins.installation import BIN, wait_for

pytestmark = pytest.mark.chaos


@asynccontextmanager
async def second_proxy(installation):
    """Another UserProxy on the same host, as root."""
    port, metrics = free_port(), free_port()
    more = {
        "FASTCONTAINER_USERPROXY_LISTEN": f"127.0.0.1:{port}",
        "FASTCONTAINER_USERPROXY_METRICS": f"127.0.0.1:{metrics}",
    }
    process = await asyncio.create_subprocess_exec(
        str(BIN / "fastcontainer-userproxy"), env=installation.environment | more
    )
    try:

        async def serves():
            try:
                return (await ask(port, "nobody.test")).status == 404
            except (OSError, asyncio.IncompleteReadError):
                return False

        await wait_for(serves, 20.0, "the second proxy serves")
        yield port, process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        await process.wait()


async def test_two_proxies_at_once(installation):
    """Both wake the same container, and what is in flight in either keeps it awake."""
    await installation.create("shared", idle_s=1.5)
    async with second_proxy(installation) as (port, _):
        both = [installation.ask("shared") if n % 2 else ask(port, "shared.localhost") for n in range(60)]
        answers = await asyncio.gather(*both)
        assert {answer.status for answer in answers} == {200} and len({answer.body for answer in answers}) == 1
        connection = await Connection.open(port)
        connection.send(b"GET /drip?n=10&s=0.4 HTTP/1.1\r\nHost: shared.localhost\r\n\r\n")
        assert (await connection.response()).body.count(b"data") == 10
        connection.close()
        async with (
            Load(installation.port, "shared.localhost", rate=20) as one,
            Load(port, "shared.localhost", rate=20) as two,
        ):
            await service_edit(installation, "shared", env={"CHANGED": "1"})
            await wait_for(lambda: len(set(one.bodies)) == 2 and len(set(two.bodies)) == 2, 6.0, "a successor serves")
        assert not one.failed and not two.failed, one.report() + two.report()
        assert len(await installation.events("shared", "started")) == 2
    await installation.asleep("shared", within_s=6.0)
    await installation.remove("shared")


async def service_edit(installation, name, **changes):
    import msgspec

    async with installation.store() as store:
        await service.edit_app(store, name, change=lambda spec: msgspec.structs.replace(spec, **changes))


def logged(installation, life):
    return f'"life":"{life}"' in (Path(installation.settings.log_dir) / "access/userproxy.log").read_text()


async def test_a_stopped_proxy_does_not_hold_up_a_drain(installation):
    await installation.create("held")
    async with second_proxy(installation) as (port, process):
        assert (await ask(port, "held.localhost")).status == 200
        await wait_for(lambda: logged(installation, "held/1.1"), 3.0, "the proxy knows that nothing is in flight")
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        await asyncio.to_thread(installation.cli, "stop", "held")
        assert time.monotonic() - began < 5.0
        assert not await installation.lives("held")
        process.send_signal(signal.SIGCONT)
        assert (await ask(port, "held.localhost")).status == 200
    await installation.remove("held")


async def test_a_spec_edited_again_and_again_under_load(installation):
    await installation.create("edited")
    await installation.wake("edited")
    async with Load(installation.port, "edited.localhost", rate=40) as load:
        for number in range(6):
            await service_edit(installation, "edited", env={"NUMBER": str(number)})
            await asyncio.sleep(random.random())
        await wait_for(lambda: one_is_left(installation, "edited"), 10.0, "one container is left")
    print(load.report(), len(set(load.bodies)), "lives")
    assert not load.failed, load.report()
    assert len(set(load.bodies)) >= 3
    await installation.remove("edited")


async def one_is_left(installation, name):
    return len(await installation.lives(name)) == 1 and len(await installation.rows(name)) == 1


async def test_an_app_removed_under_load(installation):
    await installation.create("doomed")
    await installation.wake("doomed")
    async with Load(installation.port, "doomed.localhost", rate=40) as load:
        await asyncio.sleep(0.5)
        await installation.remove("doomed")
        await wait_for(lambda: load.samples[-1].status == 404, 3.0)
        await installation.asleep("doomed", within_s=5.0)
        await installation.create("doomed")
        created = time.monotonic()
        await wait_for(lambda: load.answered_since(created), 5.0)
    assert {sample.status for sample in load.failed} == {404}, load.report()
    await installation.remove("doomed")

    async def no_rows():
        return not await installation.rows("doomed") and not await installation.lives("doomed")

    await wait_for(no_rows, 5.0)


WOKEN = 300 if os.environ.get("FASTCONTAINER_LONG") else 60


async def test_many_apps_woken_in_a_row_while_the_agent_is_killed(installation):
    names = [f"row-{number}" for number in range(WOKEN)]
    await asyncio.gather(*(installation.create(name) for name in names[:10]))
    await asyncio.gather(*(installation.create(name) for name in names[10:]))
    gate = asyncio.Semaphore(12)
    statuses = {}

    async def wake(name):
        async with gate:
            statuses[name] = (await installation.ask(name)).status

    began = time.monotonic()
    woken = asyncio.gather(*(wake(name) for name in names))
    kills = 0
    while not woken.done():
        await asyncio.sleep(random.uniform(0.3, 0.9))
        if installation.pid("agent") and kills < 4:
            installation.kill("agent")
            kills += 1
    await woken
    print(f"{WOKEN} apps in {time.monotonic() - began:.1f} s with {kills} kills of the agent")
    assert set(statuses.values()) == {200}, statuses
    await rows_equal_lives(installation, names)
    for name in names:
        await installation.remove(name)
    await installation.nothing_left(within_s=20.0)


async def test_launchers_killed_while_apps_wake(installation):
    names = [f"born-{number}" for number in range(16)]
    await asyncio.gather(*(installation.create(name, *SLOW_START) for name in names))
    asked = [asyncio.get_running_loop().create_task(installation.ask(name)) for name in names]
    for _ in range(4):
        await asyncio.sleep(random.uniform(0.1, 0.5))
        if installation.pid("launcher"):
            installation.kill("launcher")
    answers = await asyncio.gather(*asked)
    assert [answer.status for answer in answers] == [200] * len(names)
    for name in names:
        await installation.remove(name)
    await installation.nothing_left(within_s=20.0)


@pytest.fixture
def full_disk(installation):
    """For the logs of lives."""
    lives = Path(installation.settings.log_dir) / "lives"
    lives.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(lives)], check=True)
    (lives / "filler").write_bytes(b"x" * (60 << 10))
    yield
    subprocess.run(["umount", str(lives)], check=True)


async def test_the_disk_of_the_logs_is_full(installation, full_disk):
    """A site writes megabytes; wakes, requests and stops go on."""
    noisy = "while :; do echo noise noise noise noise noise; done & exec python3 -SI /srv/site.py"
    await installation.create("noisy", "sh", "-c", noisy, words={"cpu": "30%"})
    for name in ("noisy", "quiet"):
        if name == "quiet":
            await installation.create(name)
        assert (await installation.ask(name)).status == 200
    await asyncio.to_thread(installation.cli, "stop", "noisy")
    assert (await installation.ask("noisy")).status == 200
    for name in ("noisy", "quiet"):
        await installation.remove(name)
        await installation.asleep(name, within_s=5.0)


async def test_everything_killed_at_once(installation):
    """A power cut of our programs, containers survive."""
    await installation.create("survivor")
    first = await installation.ask("survivor")
    killed = {
        program: installation.pid(program) for program in ("etcd", "launcher", "agent", "webdispatcher", "userproxy")
    }
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)

    async def answers():
        try:
            return (await installation.ask("survivor")).body
        except (OSError, asyncio.IncompleteReadError):
            return b""

    body = await wait_for(answers, 15.0)
    assert body == first.body
    for program, pid in killed.items():
        await installation.restarted(program, pid)
    await installation.create("newborn")
    assert (await installation.ask("newborn")).status == 200
    await rows_equal_lives(installation, ("survivor", "newborn"))
    for name in ("survivor", "newborn"):
        await installation.remove(name)
    await installation.nothing_left(within_s=10.0)
