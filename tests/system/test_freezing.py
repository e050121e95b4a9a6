"""Frozen and thawed, by the kernel: what stands still, what dies, what the next agent finds."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from containerlib import cgroups
from dispatcher.compute.protocol import Answer, Ensure, Live
from dispatcher.domain import Policy, Start, Status
from dispatcher.problems import Code
from tests.plugins.compute import Host, Proxy, fetch, python, until

pytestmark = pytest.mark.system

FREEZES = Policy(idle_s=0.3, start=Start.FROZEN)
# Counts what it is given of time and of requests, and says when it is told to stop. The kernel may give a signal that came while
# all stood still to any thread, and Python acts on it when its first thread runs: that one must not sleep in accept().
COUNTS = python("""
ticks = requests = 0
def count():
    global ticks
    while True:
        ticks += 1
        time.sleep(0.005)
def answer(connection):
    global requests
    connection.recv(65536)
    requests += 1
    body = b"%d %d" % (ticks, requests)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    connection.close()
def stop(*_):
    print("told to stop after", requests, flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
threading.Thread(target=serve, daemon=True).start()
count()
""")


async def frozen(host: Host, policy: Policy = FREEZES, **options: object) -> Live:
    await host.app("blog", *COUNTS, policy=policy, **options)  # type: ignore[arg-type]
    live = await host.wake("blog")
    await until_frozen(host, live)
    return live


def group_of(host: Host, live: Live) -> cgroups.Group:
    return cgroups.find(host.settings.cgroup).group(str(host.slot(live)))


async def until_frozen(host: Host, live: Live) -> None:
    await (await host.proxy()).until_status(live.app, live.container, Status.FROZEN)
    await until(group_of(host, live).is_frozen)


async def counts(live: Live) -> tuple[int, int]:
    ticks, requests = (await fetch(live.address)).rpartition(b"\r\n\r\n")[2].split()
    return int(ticks), int(requests)


def cpu_ns(host: Host, live: Live) -> int:
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in group_of(host, live).processes())


def are_gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def restart_agent(host: Host) -> Proxy:
    await host.detach()
    host.kill_agent()
    await host.start_agent()
    return await host.proxy()


async def test_a_frozen_one_stands_still_and_goes_on_where_it_was(host: Host) -> None:
    live = await frozen(host)
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.FROZEN)
    before = cpu_ns(host, live)
    await asyncio.sleep(0.3)
    assert cpu_ns(host, live) == before
    again = await host.wake("blog")
    assert (again.life, again.address) == (live.life, live.address)
    assert (await counts(live))[1] == 1
    ticks, requests = await counts(live)
    assert requests == 2, "it kept its memory"
    assert ticks < 500, "time passed for it while it was frozen"
    event = await host.event("blog", "frozen")
    assert "MiB of memory" in event.message
    await until_frozen(host, live)


async def test_thawed_it_answers_within_milliseconds(host: Host) -> None:
    live = await frozen(host, Policy(idle_s=0.05, start=Start.FROZEN))
    proxy, took = await host.proxy(), []
    for _ in range(9):
        await until_frozen(host, live)
        began = time.perf_counter()
        assert isinstance(await proxy.ensure("blog"), Answer)
        await counts(live)
        took.append(time.perf_counter() - began)
    assert sorted(took)[4] < 0.1  # 3 ms on a machine of one's own; the bench shows it


async def test_its_lifespan_runs_on_and_it_is_told_to_stop_before_it_runs_again(host: Host) -> None:
    live = await frozen(host, Policy(idle_s=0.3, lifespan_s=1.5, lifespan_jitter=0, stop_grace_s=2, start=Start.FROZEN))
    pids = group_of(host, live).processes()
    await (await host.proxy()).until_status("blog", "1", None, within_s=5)
    await host.until_line("blog", "out told to stop after 0")
    await until(lambda: are_gone(pids))
    assert (await host.event("blog", "draining")).message == "its lifespan is over"
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.REGISTERED)


@pytest.mark.parametrize("program", ["handles SIGTERM", "ignores SIGTERM"])
async def test_a_stop_of_a_frozen_one_is_as_quick_as_any(host: Host, program: str) -> None:
    command = (
        COUNTS if program.startswith("handles") else python("signal.signal(signal.SIGTERM, signal.SIG_IGN); serve()")
    )
    await host.app("blog", *command, policy=FREEZES)
    live = await host.wake("blog")
    await until_frozen(host, live)
    pids = group_of(host, live).processes()
    began = time.monotonic()
    assert (await (await host.proxy()).stop("blog")).lives == ("blog/1.1",)
    assert time.monotonic() - began < 0.6
    await until(lambda: are_gone(pids))


async def test_switched_off_it_goes(host: Host) -> None:
    await frozen(host)
    await host.word("blog", "switch", "off")
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.REGISTERED)
    assert (await host.refused("blog")).code is Code.SWITCHED_OFF


async def test_one_that_is_killed_while_it_is_frozen_is_noticed(host: Host) -> None:
    live = await frozen(host)
    os.kill(group_of(host, live).processes()[-1], signal.SIGKILL)
    assert "was killed by SIGKILL" in (await host.event("blog", "failed", within_s=15)).message
    assert (await host.wake("blog")).generation == 2


async def test_one_that_was_killed_a_moment_ago_is_not_handed_out(host: Host) -> None:
    live = await frozen(host)
    os.kill(group_of(host, live).processes()[-1], signal.SIGKILL)
    again = await host.wake("blog")
    assert again.life != live.life
    assert (await counts(again))[1] == 1


async def test_who_looks_inside_finds_it_thawed(host: Host) -> None:
    live = await frozen(host)
    assert len(await host.processes("blog")) >= 1  # asked through the door
    assert not group_of(host, live).is_frozen()
    await asyncio.sleep(0.8)
    assert not group_of(host, live).is_frozen(), "somebody is inside"


# ---- kill -9


async def test_the_next_agent_keeps_it_frozen_and_thaws_it(host: Host) -> None:
    live = await frozen(host, words={"memory": "128M"})
    proxy = await restart_agent(host)
    assert proxy.live["blog", "1"].status is Status.FROZEN
    assert group_of(host, live).is_frozen()
    assert host.memory_limit(live) == str(128 << 20)
    assert (await host.wake("blog")).life == live.life
    assert (await counts(live))[1] == 1


async def test_an_agent_killed_at_any_moment_of_freezing_and_thawing_leaves_one_that_serves(host: Host) -> None:
    await host.app("blog", *COUNTS, policy=Policy(idle_s=0.1, start=Start.FROZEN))
    live = await host.wake("blog")
    for answered, moment in enumerate(("let go", "frozen", "thawed"), 1):
        proxy = await host.proxy()
        await proxy.until_status("blog", "1", Status.FROZEN)
        if moment != "let go":
            await until(group_of(host, live).is_frozen)  # and its memory is being taken back
        if moment == "thawed":
            proxy.say(Ensure(99, "blog", "1", 5.0))
            await until(lambda: not group_of(host, live).is_frozen())
        await restart_agent(host)
        assert (await host.wake("blog")).life == live.life
        assert (await counts(live))[1] == answered


async def test_an_agent_killed_while_proxies_let_go_leaves_one_that_runs(host: Host) -> None:
    await host.app("blog", *COUNTS, policy=FREEZES)
    live = await host.wake("blog")
    deaf = await Proxy.of(host.settings.agent_socket, confirms=False)
    await deaf.until_status("blog", "1", Status.FROZEN)
    assert not group_of(host, live).is_frozen()
    proxy = await restart_agent(host)
    await deaf.close()
    assert proxy.live["blog", "1"].status is Status.RUNNING
    assert (await counts(live))[1] == 1


async def test_cleaning_up_takes_frozen_ones_too(host: Host) -> None:
    live = await frozen(host)
    group = group_of(host, live)
    pids = group.processes()
    await host.detach()
    host.kill_agent()
    await host.clean()
    await until(lambda: are_gone(pids))
    assert not any(directory.exists() for directory in group.directories())
