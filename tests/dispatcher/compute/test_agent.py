"""What is asked for meets what there is."""

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.store import Delete, Put, Unavailable
from dispatcher.compute import reconcile
from dispatcher.compute.protocol import Answer, Done, Ensure, Live, Refused, Traffic
from dispatcher.coreapi import service
from dispatcher.domain import AppSpec, Cause, ComputeRow, ContainerRow, Policy, Status
from dispatcher.problems import Code
from tests.fakes.runtime import HOST, FakeContainer
from tests.plugins.compute import until

if TYPE_CHECKING:
    from tests.dispatcher.compute.conftest import Compute

ASLEEP = {"1": "registered"}


def silent(container: FakeContainer) -> None:
    """Never listens."""


def dying(container: FakeContainer) -> None:
    container.end(7 << 8)


# ---- waking


async def test_a_wake_goes_through_its_states(compute: "Compute") -> None:
    await compute.app(words={"cpu": "30%"})
    assert compute.statuses() == ASLEEP
    live = await compute.wake()
    assert live == Live("blog", "1", 1, Status.RUNNING, "100.96.0.2:80", 32)
    await until(lambda: compute.statuses() == {"1": "running"})
    row = compute.stored()["1"]
    assert (row.compute, row.generation, row.local_address, row.cpu) == ("here", 1, "100.96.0.2:80", "30%")
    assert await compute.kinds() == ["started", "ready"]
    assert compute.proxies[0].heard[1:] == [Answer(1, live, compute.life().phases), live]  # nothing while it starts


async def test_boot_cpu_until_it_listens_and_its_own_limit_then(compute: "Compute") -> None:
    await compute.app(words={"cpu": "30%", "memory": "64M"}, policy=Policy(boot_cpu="150%"))
    await compute.wake()
    history = compute.container().group.history
    assert [limits.cpu for limits in history] == [1.5, 0.3]
    assert history[-1].memory_bytes == 64 << 20


async def test_single_flight(compute: "Compute") -> None:
    compute.runtime.programs["blog"] = silent
    await compute.app()
    proxies = [await compute.proxy() for _ in range(3)]
    asking = [
        asyncio.get_running_loop().create_task(proxy.ensure("blog", str(number % 5)))
        for number in range(50)
        for proxy in proxies
    ]
    await until(lambda: len(compute.runtime.woken) == 1)
    compute.container().listen(80)
    answers = await asyncio.gather(*asking)
    assert len({answer.live for answer in answers if isinstance(answer, Answer)}) == 1
    assert len(compute.runtime.woken) == 1
    assert (await compute.kinds()).count("started") == 1


async def test_who_asks_for_a_running_one_gets_it_and_else_the_idlest(compute: "Compute") -> None:
    await compute.app(words={"containers": "3"})
    await compute.wake(id="2")
    await until(lambda: compute.running() == ["1", "2", "3"])
    proxy = compute.proxies[0]
    for id, count in (("1", 5), ("2", 1), ("3", 3)):
        proxy.traffic(compute.life(id).name, count)
    assert (await compute.wake(id="3", proxy=proxy)).container == "3"
    assert (await compute.wake(id="77", proxy=proxy)).container == "2"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"switch": "off"}, Code.SWITCHED_OFF),
        ({"switch": "maintenance"}, Code.SWITCHED_OFF),
        ({"containers": "0"}, Code.SWITCHED_OFF),
    ],
)
async def test_what_may_not_wake(compute: "Compute", words: dict[str, str], code: Code) -> None:
    await compute.app(words=words)
    assert (await compute.refused()).code is code
    assert compute.runtime.woken == []


async def test_an_unknown_app(compute: "Compute", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.compute.agent.WORD_S", 0.05)
    assert (await compute.refused("nobody")).code is Code.UNKNOWN_APP


async def test_an_app_that_a_proxy_has_heard_of_first(compute: "Compute") -> None:
    proxy = await compute.proxy()
    asking = asyncio.get_running_loop().create_task(proxy.ensure("blog", "1"))
    await asyncio.sleep(0.05)
    assert not asking.done()
    await compute.app()
    assert isinstance(await asking, Answer)


async def test_an_app_whose_spec_was_put_by_hand_gets_its_users_and_a_row(compute: "Compute") -> None:
    await compute.store.commit([], [Put(keys.spec_key("hand"), codec.encode(AppSpec(command=("serve",))))])
    await until(lambda: compute.statuses("hand") == ASLEEP)
    await until(lambda: (app := compute.cache.app("hand")) and app.uid)
    assert (await compute.wake("hand")).status is Status.RUNNING


async def test_what_woke_it_is_told_and_cut(compute: "Compute") -> None:
    await compute.app()
    answer = await (await compute.proxy()).ensure("blog", detail="GET /" + "x" * 100_000)
    assert isinstance(answer, Answer)
    (started,) = [event for event in await compute.events() if event.kind == "started"]
    assert started.message.startswith("request: GET /xxx")
    assert len(started.message) <= 220


# ---- failing


async def test_a_start_that_fails_rests_and_is_tried_again(compute: "Compute", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "BACKOFF_FIRST_S", 0.3)
    compute.runtime.programs["blog"] = dying
    await compute.app()
    refused = await compute.refused()
    assert refused.code is Code.START_FAILED
    assert "it exited with code 7" in refused.message
    await until(lambda: compute.statuses() == {"1": "failed"})
    assert "it exited with code 7" in compute.stored()["1"].reason
    resting = await compute.refused()
    assert resting.code is Code.BACKING_OFF
    assert resting.retry_after_s is not None and 0 < resting.retry_after_s <= 0.3
    await until(lambda: compute.statuses() == ASLEEP)
    compute.runtime.programs["blog"] = lambda container: container.listen(80)
    assert (await compute.wake()).generation == 2


async def test_a_person_need_not_wait_for_the_rest_to_end(compute: "Compute") -> None:
    compute.runtime.programs["blog"] = dying
    await compute.app()
    await compute.refused()
    proxy = await compute.proxy()
    compute.runtime.programs["blog"] = lambda container: container.listen(80)
    assert await proxy.start("blog") == Done(1, ("blog/1.2",))


async def test_a_new_definition_need_not_either(compute: "Compute") -> None:
    compute.runtime.programs["blog"] = dying
    await compute.app()
    await compute.refused()
    assert (await compute.refused()).code is Code.BACKING_OFF
    compute.runtime.programs["blog"] = lambda container: container.listen(80)
    await compute.edit(env={"fixed": "1"})
    await until(lambda: not compute.agent._failures.is_resting("blog", "1", time.monotonic()))
    await compute.wake()


async def test_a_crash_loop(compute: "Compute") -> None:
    await compute.app()
    await compute.wake()
    compute.container().end(9)
    await until(lambda: not len(compute.lives))
    assert (await compute.wake()).generation == 2  # at once, the first time
    compute.container().end(9)
    await until(lambda: not len(compute.lives))
    refused = await compute.refused()
    assert refused.code is Code.BACKING_OFF
    assert "it was killed by SIGKILL" in refused.message


async def test_one_of_three_that_rests_leaves_the_work_to_the_others(compute: "Compute") -> None:
    await compute.app(words={"containers": "3"})
    await compute.wake()
    await until(lambda: compute.running() == ["1", "2", "3"])
    compute.container("1").end(9)
    await until(lambda: compute.running() == ["1", "2", "3"])  # at once, the first time
    compute.runtime.programs["blog"] = dying
    compute.container("1").end(9)
    await until(lambda: compute.running() == ["2", "3"])
    assert (await compute.wake(id="1")).container in ("2", "3")


async def test_the_reason_of_a_death_by_memory_and_by_pids(compute: "Compute") -> None:
    def eats(container: FakeContainer) -> None:
        container.group.killed_for_memory = 1
        container.end(9)

    def forks(container: FakeContainer) -> None:
        container.group.forks_refused = 3
        container.end(1 << 8)

    await compute.app("eats", words={"memory": "32M"})
    await compute.app("forks", pids=20)
    compute.runtime.programs |= {"eats": eats, "forks": forks}
    assert "more memory than its limit 32M" in (await compute.refused("eats")).message
    assert "its limit of 20 processes was reached" in (await compute.refused("forks")).message


async def test_a_start_that_takes_too_long_fails_with_what_it_listens_on_instead(compute: "Compute") -> None:
    compute.runtime.programs["blog"] = lambda container: container.listen(8000)
    await compute.app(policy=Policy(start_timeout_s=0.05))
    refused = await compute.refused()
    assert "it listens on port 8000, not on port 80" in refused.message
    assert compute.runtime.woken[0].is_closed


async def test_reserve_that_cannot_be_made_is_waited_for_no_longer_than_a_start(compute: "Compute") -> None:
    compute.runtime.failing = OSError("no launcher")
    for _ in range(10):
        if not compute.pool.ready:
            break
        await compute.runtime.destroy(await compute.pool.take())  # type: ignore[arg-type]
    await compute.app(policy=Policy(start_timeout_s=0.1))
    assert "no prepared process" in (await compute.refused()).message
    compute.runtime.failing = None


# ---- draining


async def test_it_is_stopped_when_every_proxy_has_confirmed(compute: "Compute") -> None:
    await compute.app()
    live = await compute.wake()
    quick, slow = compute.proxies[0], await compute.proxy(confirms=False)
    asyncio_stop = asyncio.get_running_loop().create_task(quick.stop("blog"))
    await slow.until_status("blog", "1", Status.DRAINING)
    await quick.until_status("blog", "1", Status.DRAINING)
    began = time.monotonic()
    slow.say(Traffic({live.life: 0}))  # one that was on its way when it heard: it may have sent a request since
    await asyncio.sleep(0.05)
    assert not compute.container().signals
    slow.confirm(slow.live["blog", "1"])
    assert (await asyncio_stop).lives == ("blog/1.1",)
    assert time.monotonic() - began < 0.25
    await until(lambda: compute.statuses() == ASLEEP)
    assert await compute.kinds() == ["started", "ready", "draining", "stopped"]


async def test_a_proxy_that_confirms_with_a_count_is_waited_for(compute: "Compute") -> None:
    await compute.app()
    live = await compute.wake()
    proxy = await compute.proxy(confirms=False)
    stopping = asyncio.get_running_loop().create_task(proxy.stop("blog"))
    await proxy.until_status("blog", "1", Status.DRAINING)
    proxy.counts[live.life] = 2
    proxy.confirm(proxy.live["blog", "1"])
    await asyncio.sleep(0.4)  # longer than any proxy is waited for
    assert not compute.container().signals
    proxy.say(Traffic({live.life: 0}))
    await stopping


async def test_a_proxy_that_never_confirms_is_taken_at_its_last_word(compute: "Compute") -> None:
    await compute.app()
    await compute.wake()
    deaf = await compute.proxy(confirms=False)
    began = time.monotonic()
    await deaf.stop("blog")
    assert 0.3 <= time.monotonic() - began < 1


async def test_a_proxy_that_leaves_is_not_waited_for_nor_its_requests(compute: "Compute") -> None:
    await compute.app()
    live = await compute.wake()
    leaving = await compute.proxy(confirms=False)
    leaving.say(Traffic({live.life: 3}))
    stopping = asyncio.get_running_loop().create_task(compute.proxies[0].stop("blog"))
    await leaving.until_status("blog", "1", Status.DRAINING)
    began = time.monotonic()
    compute.proxies.remove(leaving)
    await leaving.close()
    await stopping
    assert time.monotonic() - began < 0.25


async def test_a_proxy_that_comes_while_it_drains_is_told_and_counts(compute: "Compute") -> None:
    await compute.app()
    live = await compute.wake()
    first = compute.proxies[0]
    first.traffic(live.life, 1)
    stopping = asyncio.get_running_loop().create_task(first.stop("blog"))
    await first.until_status("blog", "1", Status.DRAINING)
    late = await compute.proxy()
    assert late.live["blog", "1"].status is Status.DRAINING
    late.traffic(live.life, 1)
    await until(lambda: compute.life().in_flight == 2)
    first.traffic(live.life, 0)
    await asyncio.sleep(0.05)
    assert not compute.container().signals
    late.traffic(live.life, 0)
    await stopping


async def test_a_stop_by_force_cuts(compute: "Compute") -> None:
    await compute.app()
    live = await compute.wake()
    proxy = compute.proxies[0]
    proxy.traffic(live.life, 2)
    await proxy.stop("blog", now=True)
    assert "2 requests in flight were cut" in next(e for e in await compute.events() if e.kind == "cut").message


async def test_who_asks_while_it_drains_gets_another(compute: "Compute") -> None:
    await compute.app()
    live = await compute.wake()
    proxy = compute.proxies[0]
    proxy.traffic(live.life, 1)
    stopping = asyncio.get_running_loop().create_task(proxy.stop("blog"))
    await proxy.until_status("blog", "1", Status.DRAINING)
    assert (await compute.wake(proxy=proxy)).container == "2"
    proxy.traffic(live.life, 0)
    await stopping
    await until(lambda: compute.statuses() == {"2": "running"})


async def test_a_stop_while_it_starts_starts_it_anew_for_those_who_wait(compute: "Compute") -> None:
    compute.runtime.programs["blog"] = silent
    await compute.app()
    proxy = await compute.proxy()
    asking = asyncio.get_running_loop().create_task(proxy.ensure("blog"))
    await until(lambda: compute.runtime.woken)
    compute.runtime.programs["blog"] = lambda container: container.listen(80)
    assert (await proxy.stop("blog")).lives == ("blog/1.1",)
    answer = await asking
    assert isinstance(answer, Answer)
    assert answer.live.generation == 2


async def test_switched_off_while_it_starts_those_who_wait_are_told(compute: "Compute") -> None:
    compute.runtime.programs["blog"] = silent
    await compute.app()
    asking = asyncio.get_running_loop().create_task((await compute.proxy()).ensure("blog"))
    await until(lambda: compute.runtime.woken)
    await compute.word("switch", "off")
    answer = await asking
    assert isinstance(answer, Refused)
    assert answer.code is Code.SWITCHED_OFF


# ---- idle


async def test_silence_puts_it_to_sleep_and_nothing_is_left(compute: "Compute") -> None:
    await compute.app(policy=Policy(idle_s=0.1))
    await compute.wake()
    container = compute.container()
    await until(lambda: compute.stored()["1"] == ContainerRow("here", generation=1))
    await until(lambda: container.is_closed)
    assert len(compute.lives) == 0


async def test_counts_are_kept_by_proxy(compute: "Compute") -> None:
    await compute.app(policy=Policy(idle_s=0.1))
    live = await compute.wake()
    first, second = compute.proxies[0], await compute.proxy()
    first.traffic(live.life, 1)
    second.traffic(live.life, 2)
    await until(lambda: compute.life().in_flight == 3)
    first.traffic(live.life, 0)
    await asyncio.sleep(0.25)
    assert compute.running() == ["1"]
    compute.proxies.remove(second)
    await second.close()  # its requests end with it
    await until(lambda: compute.statuses() == ASLEEP)


async def test_one_busy_container_keeps_the_whole_app_awake(compute: "Compute") -> None:
    await compute.app(words={"containers": "2"}, policy=Policy(idle_s=0.1))
    await compute.wake()
    await until(lambda: compute.running() == ["1", "2"])
    compute.proxies[0].traffic(compute.life("1").name, 1)
    await asyncio.sleep(0.3)
    assert compute.running() == ["1", "2"]


async def test_somebody_who_is_connected_directly_keeps_it_awake_for_as_long_as_he_is(compute: "Compute") -> None:
    await compute.app(policy=Policy(idle_s=0.05))
    compute.runtime.programs["blog"] = lambda container: (
        container.listen(80), container.wire.diag.connect(container.address, 80, "203.0.113.9"),
    )[0]  # fmt: skip
    await compute.wake()
    await asyncio.sleep(0.3)
    assert compute.running() == ["1"]
    compute.container().wire.diag.connections.clear()
    await until(lambda: compute.statuses() == ASLEEP)


async def test_its_own_connections_do_not(compute: "Compute") -> None:
    def connected(container: FakeContainer) -> None:
        container.listen(80)
        container.wire.diag.connect(container.address, 50_000, "10.0.0.5", 3306)
        container.wire.diag.connect("127.0.0.1", 80, "127.0.0.1")
        container.wire.diag.connect(
            container.address, 80, HOST
        )  # a proxy's: the host knows no such socket of another user

    compute.runtime.programs["blog"] = connected
    await compute.app(policy=Policy(idle_s=0.05))
    await compute.wake()
    await until(lambda: compute.statuses() == ASLEEP)


async def test_counts_of_lives_that_are_no_more_are_nobodys(compute: "Compute") -> None:
    await compute.app()
    live = await compute.wake()
    compute.proxies[0].say(Traffic({"blog/1.99": 5, "nobody/1.1": 1, "odd": 2, live.life: 1}))
    await until(lambda: compute.life().in_flight == 1)


# ---- lifespan


AGEING = Policy(lifespan_s=0.15, lifespan_jitter=0, drain_grace_s=1)


async def test_the_successor_listens_before_the_old_one_drains(compute: "Compute") -> None:
    await compute.app(policy=AGEING)
    old = await compute.wake()
    proxy = compute.proxies[0]
    proxy.traffic(old.life, 1)
    await proxy.until_status("blog", "1", Status.DRAINING)
    await compute.edit(policy=Policy())
    told = [(each.container, each.status) for each in proxy.heard if isinstance(each, Live)]
    assert told[:3] == [("1", Status.RUNNING), ("2", Status.RUNNING), ("1", Status.DRAINING)]
    await asyncio.sleep(0.05)
    assert not compute.container("1").signals
    proxy.traffic(old.life, 0)
    await until(lambda: [*compute.statuses()] == ["2"])


async def test_a_successor_that_fails_leaves_the_old_one_at_work_until_its_grace_is_over(
    compute: "Compute", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "BACKOFF_FIRST_S", 0.1)
    await compute.app(policy=AGEING)
    began = time.monotonic()
    old = await compute.wake()
    compute.runtime.programs["blog"] = dying
    proxy = compute.proxies[0]
    proxy.traffic(old.life, 1)
    await until(lambda: (compute.stored().get("2") or ContainerRow("")).generation >= 2)  # tried, rested, tried again
    assert compute.running() == ["1"]
    await proxy.until_status("blog", "1", None)
    assert 1.1 <= time.monotonic() - began < 2
    assert "1 requests in flight were cut" in next(e for e in await compute.events() if e.kind == "cut").message
    await until(lambda: "1" not in compute.stored())


async def test_a_successor_that_works_at_the_second_attempt_takes_over(
    compute: "Compute", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "BACKOFF_FIRST_S", 0.1)
    await compute.app(policy=Policy(lifespan_s=0.15, lifespan_jitter=0, drain_grace_s=30))
    old = await compute.wake()
    compute.runtime.programs["blog"] = dying
    compute.proxies[0].traffic(old.life, 1)
    await until(lambda: "2" in compute.stored() and len(compute.runtime.woken) >= 2)
    await compute.edit(policy=Policy())
    await until(lambda: (app := compute.cache.app("blog")) and app.spec.policy == Policy())
    compute.runtime.programs["blog"] = lambda container: container.listen(80)
    await until(lambda: "2" in compute.running() and compute.life("1").draining)
    compute.proxies[0].traffic(old.life, 0)
    await until(lambda: compute.statuses() == {"2": "running"})


async def test_an_old_one_that_nobody_uses_gets_no_successor(compute: "Compute") -> None:
    await compute.app(policy=Policy(lifespan_s=0.1, lifespan_jitter=0, idle_s=0.1))
    await compute.wake()
    await until(lambda: compute.statuses() == ASLEEP)
    assert "replaced" not in await compute.kinds()


# ---- hand edits


async def test_cpu_and_memory_change_while_it_runs(compute: "Compute") -> None:
    await compute.app(words={"cpu": "50%"})
    await compute.wake()
    await compute.word("cpu", "60%")
    await until(lambda: compute.container().group.limits.cpu == 0.6)
    await compute.word("memory", "64M")
    await until(lambda: compute.container().group.limits.memory_bytes == 64 << 20)
    await until(lambda: (compute.stored()["1"].cpu, compute.stored()["1"].memory) == ("60%", "64M"))
    assert len(compute.runtime.woken) == 1


async def test_cpu_changed_while_it_boots_counts_when_it_has_booted(compute: "Compute") -> None:
    compute.runtime.programs["blog"] = silent
    await compute.app(words={"cpu": "50%"})
    asking = asyncio.get_running_loop().create_task((await compute.proxy()).ensure("blog"))
    await until(lambda: compute.runtime.woken)
    await compute.word("cpu", "60%")
    await until(lambda: compute.life().app.cpu == 0.6)
    assert compute.container().group.limits.cpu == 1.0
    compute.container().listen(80)
    await asking
    assert compute.container().group.limits.cpu == 0.6


async def test_limits_that_the_kernel_refuses_change_nothing(compute: "Compute") -> None:
    await compute.app(words={"memory": "128M"})
    await compute.wake()
    compute.container().group.memory_in_use = 100 << 20
    await compute.word("memory", "16M")
    await until(lambda: compute.agent.history._queue or compute.agent.history.written > 2)
    assert "refused" in await compute.kinds()
    assert compute.container().group.limits.memory_bytes == 128 << 20
    await until(lambda: compute.stored()["1"].memory == "128M")


async def test_containers_come_and_go_with_the_word(compute: "Compute") -> None:
    await compute.app()
    await compute.word("containers", "3")
    await until(lambda: compute.statuses() == {"1": "registered", "2": "registered", "3": "registered"})
    await compute.wake()
    await until(lambda: compute.running() == ["1", "2", "3"])
    await compute.word("containers", "1")
    await until(lambda: compute.statuses() == {"3": "running"})
    await compute.word("containers", "0")
    await until(lambda: compute.statuses() == {})


async def test_busy_containers_are_not_cut_by_a_smaller_word(compute: "Compute") -> None:
    await compute.app(words={"containers": "2"})
    await compute.wake()
    await until(lambda: compute.running() == ["1", "2"])
    proxy = compute.proxies[0]
    proxy.traffic(compute.life("1").name, 1)
    await compute.word("containers", "1")
    await proxy.until_status("blog", "1", Status.DRAINING)
    await asyncio.sleep(0.05)
    assert not compute.container("1").signals
    proxy.traffic(compute.life("1").name, 0)
    await until(lambda: compute.statuses() == {"2": "running"})


@pytest.mark.parametrize("field", ["cpu", "memory", "containers", "switch", "spec"])
async def test_a_bad_value_is_refused_with_an_event_and_changes_nothing(compute: "Compute", field: str) -> None:
    await compute.app(words={"cpu": "50%"})
    live = await compute.wake()
    await compute.word(field, "lots")
    await until(lambda: compute.cache.refusals)
    (refused,) = [event for event in await compute.events() if event.kind == "refused"]
    assert (refused.key, refused.value) == (f"/fastcontainer/apps/blog/{field}", "lots")
    assert await compute.wake(proxy=compute.proxies[0]) == live
    assert compute.container().group.limits.cpu == 0.5


async def test_only_one_compute_tells_of_a_bad_value(compute: "Compute") -> None:
    await compute.app("blog")
    other = codec.encode(ComputeRow("x:1", 1.0, 1))
    names = [f"node{number}" for number in range(20)]
    await compute.store.commit([], [Put(keys.compute_key(name), other) for name in names])
    await until(lambda: len(compute.cache.computes()) == 21)
    mine = reconcile.acting_compute("blog", compute.cache.computes()) == "here"
    await compute.word("cpu", "lots")
    await until(lambda: compute.cache.refusals)
    assert ("refused" in await compute.kinds()) is mine


async def test_a_changed_definition_is_replaced_once(compute: "Compute") -> None:
    await compute.app()
    await compute.wake()
    compute.runtime.programs["blog"] = silent
    await compute.edit(env={"A": "1"})
    await until(lambda: len(compute.runtime.woken) == 2)
    await compute.word("cpu", "50%")  # any further change of the app is looked at again
    await asyncio.sleep(0.1)
    assert len(compute.runtime.woken) == 2
    assert compute.running() == ["1"]
    compute.container("2").listen(80)
    await until(lambda: compute.statuses() == {"2": "running"})


async def test_a_definition_changed_again_while_the_successor_starts(compute: "Compute") -> None:
    await compute.app()
    await compute.wake()
    compute.runtime.programs["blog"] = silent
    await compute.edit(env={"A": "1"})
    await until(lambda: len(compute.runtime.woken) == 2)
    compute.runtime.programs["blog"] = lambda container: container.listen(80)
    await compute.edit(env={"A": "2"})
    await until(lambda: list(compute.statuses().values()) == ["running"])
    (id,) = compute.running()
    identity = compute.container(id).identity
    assert identity is not None and identity.env == {"A": "2"}
    assert len(compute.lives) == 1


async def test_a_changed_policy_needs_no_new_process(compute: "Compute") -> None:
    await compute.app()
    await compute.wake()
    await compute.edit(policy=Policy(idle_s=0.05))
    await until(lambda: compute.statuses() == ASLEEP)
    assert len(compute.runtime.woken) == 1


async def test_a_removed_app_goes_with_rows_and_logs(compute: "Compute") -> None:
    await compute.app()
    await compute.wake()
    await service.remove_app(compute.store, "blog")
    await until(lambda: not compute.stored() and not len(compute.lives))


async def test_an_app_removed_between_the_cache_and_the_store_stops_nobody_elses_reconciling(
    compute: "Compute",
) -> None:
    spec = codec.encode(AppSpec(command=("serve",)))
    for _ in range(3):
        await compute.store.commit([], [Put(keys.spec_key("short"), spec)])
        await until(lambda: compute.cache.app("short"))
        await compute.store.commit([], [Delete(keys.spec_key("short"))])
    await compute.app()
    await compute.word("containers", "2")
    await until(lambda: len(compute.stored()) == 2)


async def test_a_row_that_somebody_deleted_under_a_running_container_comes_back(compute: "Compute") -> None:
    await compute.app()
    await compute.wake()
    await until(lambda: compute.statuses() == {"1": "running"})
    row = compute.stored()
    await compute.store.commit([], [Delete(keys.container_key("blog", "1"))])
    await until(lambda: compute.stored() == row)
    assert len(compute.runtime.woken) == 1


# ---- without the CMDB


async def test_everything_goes_on_and_afterwards_the_rows_tell_the_truth(compute: "Compute") -> None:
    await compute.app("wakes")
    await compute.app("sleeps", policy=Policy(idle_s=0.1))
    await compute.app("ages", policy=AGEING)
    await compute.app("fails")
    await compute.app("dies")
    for app in ("ages", "dies"):
        await compute.wake(app)
    await until(lambda: compute.statuses("ages") == {"1": "running"})
    proxy = compute.proxies[0]
    compute.runtime.programs["fails"] = dying
    compute.store.down = True

    await compute.wake("wakes", proxy=proxy)
    await compute.wake("sleeps", proxy=proxy)
    proxy.traffic("ages/1.1", 1)
    await proxy.until_status("ages", "2", Status.RUNNING)
    await proxy.until_status("ages", "1", Status.DRAINING)
    proxy.traffic("ages/1.1", 0)
    await proxy.until_status("ages", "1", None)
    proxy.traffic("ages/2.1", 1)
    assert (await compute.refused("fails")).code is Code.START_FAILED
    compute.container(app="dies").end(9)
    await proxy.until_status("sleeps", "1", None)
    assert compute.statuses("wakes") == ASLEEP  # nobody could be told

    compute.store.down = False
    await until(lambda: compute.statuses("wakes") == {"1": "running"})
    await until(lambda: compute.stored("sleeps") == {"1": ContainerRow("here", generation=1)})
    await until(lambda: "1" not in compute.stored("ages") and compute.stored("ages"))
    await until(lambda: compute.stored("fails")["1"].generation == 1)
    await until(lambda: compute.statuses("dies")["1"] == "registered")
    assert [event.kind for event in await compute.events("sleeps")] == ["started", "ready", "draining", "stopped"]


# ---- after a former agent


async def test_the_next_agent_has_adopted_everything_before_it_answers(compute: "Compute") -> None:
    await compute.app()
    live = await compute.wake()
    await compute.stop()
    await compute.start()
    proxy = await compute.proxy()
    assert proxy.heard[0] == live
    assert await compute.wake(proxy=proxy) == live
    await until(lambda: compute.statuses() == {"1": "running"})
    assert len(compute.runtime.woken) == 1


async def test_a_bad_word_costs_what_was_adopted_none_of_its_limits(compute: "Compute") -> None:
    await compute.app(words={"cpu": "60%"})
    await compute.wake()
    await compute.word("cpu", "lots")
    await compute.stop()
    await compute.start()
    await compute.word("memory", "64M")  # the next good one shows that the bad one was met
    await until(lambda: compute.life().app.memory_bytes == 64 << 20)
    assert compute.life().app.cpu == 0.6
    assert compute.container().group.limits.cpu == 0.6


async def test_the_next_agent_follows_what_it_adopted_to_its_end(compute: "Compute") -> None:
    await compute.app(policy=Policy(idle_s=0.2))
    await compute.wake()
    await compute.stop()
    await compute.start()
    await until(lambda: compute.statuses() == ASLEEP)
    assert (await compute.wake()).generation == 2
    compute.container().end(9)
    await until(lambda: not len(compute.lives))
    await compute.stop()
    await compute.start()
    assert len(compute.lives) == 0


async def test_what_was_starting_goes_on_starting(compute: "Compute") -> None:
    compute.runtime.programs["blog"] = silent
    await compute.app()
    (await compute.proxy()).say(Ensure(1, "blog", "1", 5, Cause.REQUEST))
    await until(lambda: compute.runtime.woken)
    await compute.stop()
    await compute.start()
    proxy = await compute.proxy()
    assert compute.life().status is Status.STARTING and not proxy.live
    compute.container().listen(80)
    await proxy.until_status("blog", "1", Status.RUNNING)


async def test_what_drained_waits_until_the_proxies_are_back_and_have_told_their_counts(compute: "Compute") -> None:
    await compute.app()
    live = await compute.wake()
    proxy = compute.proxies[0]
    proxy.traffic(live.life, 1)
    stopping = asyncio.get_running_loop().create_task(proxy.stop("blog"))
    await proxy.until_status("blog", "1", Status.DRAINING)
    await compute.stop()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await compute.start()
    proxy = await compute.proxy(confirms=False)
    proxy.traffic(live.life, 1)
    await asyncio.sleep(0.5)
    assert not compute.container().signals
    proxy.traffic(live.life, 0)
    await until(lambda: compute.statuses() == ASLEEP)


async def test_what_died_meanwhile_is_a_row_that_sleeps(compute: "Compute") -> None:
    await compute.app()
    await compute.wake()
    await until(lambda: compute.statuses() == {"1": "running"})
    container = compute.container()
    await compute.stop()
    container.end(9)
    await compute.start()
    await until(lambda: compute.statuses() == ASLEEP)
    assert len(compute.lives) == 0
    assert (await compute.wake()).generation == 2


async def test_a_former_agents_old_one_and_its_successor_become_one(compute: "Compute") -> None:
    await compute.app(policy=Policy(lifespan_s=0.15, lifespan_jitter=0, drain_grace_s=30))
    old = await compute.wake()
    proxy = compute.proxies[0]
    proxy.traffic(old.life, 1)
    await proxy.until_status("blog", "1", Status.DRAINING)
    await compute.edit(policy=Policy())
    await compute.stop()
    await compute.start()
    await until(lambda: "1" not in compute.statuses() and list(compute.statuses().values()) == ["running"])


# ---- what goes wrong for one


async def test_what_goes_wrong_with_one_app_does_not_keep_the_others_awake(
    compute: "Compute", caplog: pytest.LogCaptureFixture
) -> None:
    await compute.app(policy=Policy(idle_s=0.05))
    await compute.app("shop", policy=Policy(idle_s=0.05))
    await compute.wake()
    await compute.wake("shop")
    broken = compute.life()
    expires, broken.expires = broken.expires, None  # type: ignore[assignment] - some fault of ours
    await until(lambda: not compute.lives.of("shop"))
    await until(lambda: "looking after app blog failed" in caplog.text)
    broken.expires = expires
    await until(lambda: not compute.lives.of("blog"))


async def test_an_app_put_by_hand_while_the_cmdb_takes_no_writes_gets_its_users_afterwards(
    compute: "Compute", monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def refuse(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise Unavailable("no leader")

    with monkeypatch.context() as patched:
        patched.setattr(service, "claim_uids", refuse)
        await compute.store.commit([], [Put(keys.spec_key("blog"), codec.encode(AppSpec(command=("serve",))))])
        await until(lambda: asked)
    await until(lambda: (app := compute.cache.app("blog")) and app.uid)
