"""kill -9 of the agent, of the launcher, at the worst moments: no container is lost."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.store import Put
from dispatcher.domain import ContainerRow, Policy, Status
from tests.fakes import launcher_of_before
from tests.plugins.compute import Host, Proxy, fetch, python, until

pytestmark = pytest.mark.system


async def restart_agent(host: Host) -> Proxy:
    await host.detach()
    host.kill_agent()
    await host.start_agent()
    return await host.proxy()


async def test_a_new_agent_adopts_what_runs(host: Host) -> None:
    (host.content / "index.html").write_text("hello")
    await host.app("blog", words={"cpu": "50%"})
    live = await host.wake("blog")
    (init, *_) = await host.processes("blog")
    await host.detach()
    host.kill_agent()
    assert (await fetch(live.address)).endswith(b"hello")
    await host.start_agent()
    assert (await host.proxy()).live == {("blog", "1"): live}
    assert (await host.processes("blog"))[0] == init
    assert await host.wake("blog") == live
    await host.word("blog", "cpu", "70%")
    await until(lambda: host.cpu_limit(live) == "70000")
    assert (await host.proxy()).live == {("blog", "1"): live}
    assert (await (await host.proxy()).stop("blog")).lives == ("blog/1.1",)
    await host.until_rows("blog", lambda rows: rows["1"] == ContainerRow("here", generation=1))


async def test_an_adopted_container_still_goes_to_sleep(host: Host) -> None:
    await host.app("blog", policy=Policy(idle_s=0.5))
    await host.wake("blog")
    proxy = await restart_agent(host)
    assert proxy.live
    await proxy.until_status("blog", "1", None)
    assert (await host.wake("blog")).generation == 2


async def test_a_generation_that_only_the_journal_knows_is_not_given_again(host: Host) -> None:
    """Two lives of one name would write one log."""
    await host.app("blog", *python("print('one of two'); serve()"))
    await host.wake("blog")
    (init, *_) = await host.processes("blog")
    await host.detach()
    host.kill_agent()
    os.kill(init, signal.SIGKILL)
    await host.store.commit(
        [], [Put(keys.container_key("blog", "1"), codec.encode(ContainerRow("here")))]
    )  # not told yet
    await host.start_agent()
    assert (await host.wake("blog")).generation == 2


async def test_a_container_that_died_meanwhile_is_noticed_and_cleared_away(host: Host) -> None:
    await host.app("blog")
    await host.wake("blog")
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.RUNNING)
    (init, *_) = await host.processes("blog")
    await host.detach()
    host.kill_agent()
    os.kill(init, signal.SIGKILL)
    await host.start_agent()
    proxy = await host.proxy()
    assert proxy.live == {}
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.REGISTERED)
    assert (await host.wake("blog")).generation == 2


async def test_an_agent_killed_in_the_middle_of_a_start_leaves_one_that_goes_on(host: Host) -> None:
    await host.app(
        "blog", *python("print('boots', flush=True)\nwhile not os.path.exists('/srv/go'): time.sleep(0.01)\nserve()")
    )
    proxy = await host.proxy()
    await host.known("blog")
    asking = asyncio.get_running_loop().create_task(proxy.ensure("blog"))
    await host.until_line("blog", "out boots")
    proxy = await restart_agent(host)
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not proxy.live  # it still starts
    (host.content / "go").touch()
    live = await host.wake("blog")
    assert live.life == "blog/1.1"
    assert (await fetch(live.address)).endswith(b"ok")
    assert host.lines("blog").count("out boots") == 1


async def test_an_agent_killed_while_it_drains_waits_for_what_is_in_flight(host: Host) -> None:
    await host.app("blog")
    live = await host.wake("blog")
    proxy = await host.proxy()
    proxy.traffic(live.life, 1)
    stopping = asyncio.get_running_loop().create_task(proxy.stop("blog"))
    await proxy.until_status("blog", "1", Status.DRAINING)
    host.kill_agent()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await host.detach()
    await host.start_agent()
    proxy = await Proxy.of(host.settings.agent_socket, confirms=False)
    proxy.traffic(live.life, 1)
    with pytest.raises(TimeoutError):
        await proxy.until_status("blog", "1", None, within_s=4)
    proxy.traffic(live.life, 0)
    await proxy.until_status("blog", "1", None)
    await proxy.close()


async def test_ten_agents_one_after_the_other(host: Host) -> None:
    await host.app("blog")
    live = await host.wake("blog")
    for _ in range(10):
        proxy = await restart_agent(host)
        assert proxy.live == {("blog", "1"): live}
    await host.app("shop")
    await host.wake("shop")


async def test_containers_outlive_the_launcher_and_their_end_is_noticed(host: Host) -> None:
    (host.content / "index.html").write_text("hello")
    await host.app("blog", words={"containers": "2"})
    await host.app("shop")
    live = await host.wake("blog")
    proxy = await host.proxy()
    await proxy.until(lambda: len(proxy.live) == 2)
    host.kill_launcher()
    assert (await fetch(live.address)).endswith(b"hello")
    (init, *_) = await host.processes("blog", "1")
    os.kill(init, signal.SIGKILL)
    await proxy.until(lambda: any(getattr(each, "reason", "") for each in proxy.heard))
    event = await host.event("blog", "failed")
    assert "was killed by SIGKILL" in event.message or "how is not known" in event.message
    host.start_launcher()
    shop = await host.wake("shop")
    assert (await fetch(shop.address)).endswith(b"hello")
    await proxy.stop("blog")


async def test_a_launcher_of_before_an_upgrade_begins_anew_and_keeps_its_containers(
    new_host: Callable[..., AbstractAsyncContextManager[Host]],
) -> None:
    async with new_host(launcher_of_before.__file__) as host:
        await until(lambda: "the launcher runs other code than this agent, and begins anew" in host.log.read_text())
        await host.app("blog")
        live = await host.wake("blog")
        launcher = host.launcher
        assert launcher is not None and launcher.poll() is None
        await restart_agent(host)
        assert await host.wake("blog") == live
        await (await host.proxy()).stop("blog")
        assert host.log.read_text().count("begins anew; containers stay") == 1


async def test_a_request_that_finds_no_launcher_waits_for_one_and_not_for_ever(host: Host) -> None:
    await host.app("blog", policy=Policy(start_timeout_s=30))
    await host.app("shop", policy=Policy(start_timeout_s=1))
    for number in range(host.settings.blanks):
        await host.app(f"before{number}", policy=Policy(start_timeout_s=2))
    host.kill_launcher()
    for number in range(host.settings.blanks):  # they take what there is of the reserve
        await host.ensure(f"before{number}")
    blog = asyncio.get_running_loop().create_task(host.wake("blog"))
    began = time.monotonic()
    refused = await host.refused("shop")
    assert time.monotonic() - began < 3
    assert "no prepared process" in refused.message
    host.start_launcher()
    assert (await blog).status is Status.RUNNING
    await host.until_answer("shop")


async def test_agent_and_launcher_killed_at_once(host: Host) -> None:
    (host.content / "index.html").write_text("hello")
    await host.app("blog")
    await host.app("shop")
    live = await host.wake("blog")
    await host.detach()
    host.kill_launcher()
    host.kill_agent()
    await host.start()
    assert (await host.proxy()).live == {("blog", "1"): live}
    assert (await fetch(live.address)).endswith(b"hello")
    await host.wake("shop")
    await (await host.proxy()).stop("blog")


async def test_the_rest_of_a_site_that_failed_ends_with_the_agent_that_kept_it(host: Host) -> None:
    await host.app("blog", "false")
    await host.refused("blog")
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.FAILED)
    await restart_agent(host)
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.REGISTERED)


async def test_a_second_agent_is_not_mistaken_for_a_dead_one_by_clean(host: Host) -> None:
    await host.app("blog")
    live = await host.wake("blog")
    with pytest.raises(AssertionError, match="an agent runs"):
        await host.clean()
    assert await host.wake("blog") == live
