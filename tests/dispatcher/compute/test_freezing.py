"""Frozen and thawed: an agent over a Runtime without a kernel. tests/system/test_freezing.py has the kernel."""

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import pytest

from dispatcher.compute import choosing, freezing, strategy
from dispatcher.compute import lives as lives_module
from dispatcher.compute.protocol import Answer, Live, Traffic
from dispatcher.domain import Policy, Start, Status
from dispatcher.problems import Code
from tests.fakes.runtime import FakeContainer
from tests.plugins.compute import Proxy, until

if TYPE_CHECKING:
    from tests.dispatcher.compute.conftest import Compute

IDLE_S = 0.1
FREEZES = Policy(idle_s=IDLE_S, start=Start.FROZEN)


def asleep(compute: "Compute") -> bool:
    return not compute.lives.of("blog") and compute.statuses() == {"1": "registered"}


async def frozen(compute: "Compute", policy: Policy = FREEZES, words: dict[str, str] | None = None) -> FakeContainer:
    await compute.app(policy=policy, words=words)
    await compute.wake()
    await until(lambda: compute.life().is_frozen and compute.life().freezing and compute.life().freezing.done())
    await until(lambda: compute.statuses()["1"] == "frozen")
    return compute.container()


async def test_silence_freezes_it_and_a_request_thaws_it(compute: "Compute") -> None:
    container = await frozen(compute)
    assert container.group.frozen
    assert not container.signals
    live = await compute.wake()
    assert (live.life, live.status, live.turn) == ("blog/1.1", Status.RUNNING, 1)
    assert not container.group.frozen
    await until(lambda: compute.statuses() == {"1": "running"})
    await until(lambda: container.group.freezes == 2)  # silence again
    kinds = await compute.kinds()
    assert kinds[:5] == ["started", "ready", "frozen", "thawed", "frozen"]
    assert len(compute.runtime.woken) == 1


async def test_what_thaws_it_is_told_and_how_long_it_took(compute: "Compute") -> None:
    await frozen(compute)
    answer = await (await compute.proxy()).ensure("blog", detail="GET blog.localhost/x")
    assert isinstance(answer, Answer)
    assert list(answer.phases) == ["thaw"]
    assert 0 < answer.phases["thaw"] < 50
    (event,) = [event for event in await compute.events() if event.kind == "thawed"]
    assert event.message == "request: GET blog.localhost/x"
    assert compute.stored()["1"].expires == compute.life().expires  # of its life, which is the same


async def test_nothing_is_frozen_before_every_proxy_has_let_go(compute: "Compute") -> None:
    await compute.app(policy=FREEZES)
    slow = await compute.proxy(confirms=False)
    live = await compute.wake(proxy=slow)
    quick = await compute.proxy()
    for proxy in (slow, quick):
        await proxy.until_status("blog", "1", Status.FROZEN)
    slow.say(Traffic({live.life: 0}))  # on its way when it heard
    await asyncio.sleep(0.05)
    assert compute.container().group.freezes == 0
    slow.confirm(slow.live["blog", "1"])
    await until(lambda: compute.container().group.frozen, within_s=0.2)


async def test_a_proxy_that_never_confirms_is_taken_at_its_last_word(compute: "Compute") -> None:
    await compute.app(policy=FREEZES)
    deaf = await compute.proxy(confirms=False)
    live = await compute.wake(proxy=deaf)
    await until(lambda: compute.container().group.frozen)
    deaf.traffic(live.life, 1)  # and what it sends all the same is not left waiting
    await until(lambda: compute.life().status is Status.RUNNING)
    assert not compute.container().group.frozen


async def test_a_request_that_crosses_the_word_takes_it_back(compute: "Compute") -> None:
    await compute.app(policy=FREEZES)
    proxy = await compute.proxy(confirms=False)
    live = await compute.wake(proxy=proxy)
    await proxy.until_status("blog", "1", Status.FROZEN)
    proxy.counts[live.life] = 1
    proxy.confirm(proxy.live["blog", "1"])
    await proxy.until_status("blog", "1", Status.RUNNING)
    await asyncio.sleep(IDLE_S * 2)
    assert compute.container().group.freezes == 0
    assert "thawed" not in await compute.kinds()  # it never was
    proxy.confirms = True
    proxy.traffic(live.life, 0)
    await until(lambda: compute.container().group.frozen)


async def test_who_asks_while_it_is_let_go_has_it_at_once(compute: "Compute") -> None:
    await compute.app(policy=FREEZES)
    deaf = await compute.proxy(confirms=False)
    await compute.wake(proxy=deaf)
    await deaf.until_status("blog", "1", Status.FROZEN)
    asked = time.monotonic()
    assert (await compute.wake()).life == "blog/1.1"
    assert time.monotonic() - asked < 0.1
    assert compute.container().group.freezes == 0


async def test_who_asks_while_the_kernel_is_at_it_has_it_too(compute: "Compute") -> None:
    await compute.app(policy=FREEZES)
    await compute.wake()
    compute.container().group.stays_awake = True
    await until(lambda: compute.container().group.frozen)
    assert not compute.life().is_frozen
    assert (await compute.wake()).life == "blog/1.1"
    assert not compute.container().group.frozen
    compute.container().group.stays_awake = False
    await until(lambda: compute.life().is_frozen)


async def test_page_cache_is_given_back_in_slices(compute: "Compute") -> None:
    def reads(container: FakeContainer) -> None:
        container.group.memory_in_use, container.group.page_cache = 3 << 20, 21 << 20
        container.listen(80)

    compute.runtime.programs["blog"] = reads
    container = await frozen(compute)
    assert container.group.page_cache == 0
    assert compute.life().kept_bytes == 3 << 20
    (event,) = [event for event in await compute.events() if event.kind == "frozen"]
    assert event.message == "it keeps 3.0 MiB of memory; 21.0 MiB were taken back"
    await compute.wake()
    assert compute.life().kept_bytes == 0


# ---- what fails falls back


async def test_what_cannot_be_frozen_is_stopped(compute: "Compute") -> None:
    await compute.app(policy=FREEZES)
    await compute.wake()
    compute.container().group.not_freezing = OSError(5, "Input/output error")
    await until(lambda: asleep(compute))
    kinds = await compute.kinds()
    assert kinds == ["started", "ready", "not frozen", "draining", "stopped"]
    assert (await compute.wake()).life == "blog/1.2"


async def test_what_does_not_freeze_in_time_is_stopped(compute: "Compute", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "FREEZE_S", 0.05)
    await compute.app(policy=FREEZES)
    await compute.wake()
    compute.container().group.stays_awake = True
    await until(lambda: asleep(compute))
    event = next(event for event in await compute.events() if event.kind == "not frozen")
    assert event.message == "not all of its processes stopped within 0.05 s; it is stopped instead"


async def test_what_cannot_be_thawed_is_started_anew(compute: "Compute") -> None:
    container = await frozen(compute)
    container.group.not_thawing = OSError(5, "Input/output error")
    assert (await compute.wake()).life == "blog/2.1"
    await until(lambda: compute.statuses() == {"2": "running"})
    assert container.is_closed
    assert "not thawed" in await compute.kinds()


async def test_what_was_killed_while_it_was_frozen_is_started_anew(compute: "Compute") -> None:
    container = await frozen(compute)
    container.signal(signal.SIGKILL)
    assert not container.is_dead, "as with cgroup v1"
    assert (await compute.wake()).life == "blog/2.1"
    await until(lambda: container.is_closed)


async def test_who_dies_frozen_is_noticed_without_a_request(compute: "Compute") -> None:
    container = await frozen(compute)
    container.signal(signal.SIGKILL)
    compute.lives.let_killed_die()
    await until(lambda: compute.statuses()["1"] in ("failed", "registered"))
    assert "was killed by SIGKILL" in next(e for e in await compute.events() if e.kind == "failed").message
    assert not compute.lives.of("blog")


async def test_an_out_of_memory_death_while_frozen_is_noticed(compute: "Compute") -> None:
    container = await frozen(compute)
    container.group.killed_for_memory = 1
    container.end(signal.SIGKILL)
    await until(lambda: not compute.lives.of("blog"))
    assert "used more memory" in next(e for e in await compute.events() if e.kind == "failed").message
    await compute.wake()


# ---- age, and what people do


async def test_its_lifespan_runs_on(compute: "Compute") -> None:
    container = await frozen(compute, Policy(idle_s=IDLE_S, lifespan_s=0.5, lifespan_jitter=0, start=Start.FROZEN))
    began = compute.life().started
    thawed: list[float] = []
    container.group.on_thaw, deliver = (lambda: (thawed.append(time.time()), deliver())[1]), container.group.on_thaw
    await until(lambda: asleep(compute))
    assert 0.5 <= time.time() - began < 1.5
    assert container.signals == [signal.SIGTERM], "it was told to stop before it ran again"
    assert len(thawed) == 1
    assert [event.message for event in await compute.events() if event.kind == "draining"] == ["its lifespan is over"]


async def test_who_asks_for_one_whose_time_is_over_gets_another(
    compute: "Compute", monkeypatch: pytest.MonkeyPatch
) -> None:
    await frozen(compute)
    compute.life().expires = time.time() - 0.001
    live = await compute.wake()  # before the next tick
    assert live.life in ("blog/2.1", "blog/1.2")
    assert [event.message for event in await compute.events() if event.kind == "draining"] == ["its lifespan is over"]


async def test_freezing_and_thawing_does_not_lengthen_a_life(compute: "Compute") -> None:
    policy = Policy(idle_s=0.02, lifespan_s=0.6, lifespan_jitter=0, start=Start.FROZEN)
    await compute.app(policy=policy)
    proxy = await compute.proxy()
    live = first = await compute.wake(proxy=proxy)
    life = compute.life()
    expires, thaws = life.expires, 0
    while live.life == first.life:
        assert life.expires == expires
        assert time.time() < expires + 0.1
        await until(lambda: life.is_frozen or life.draining or life.ended.is_set())
        thaws += life.is_frozen
        live = await compute.wake(proxy=proxy)
    assert thaws > 3


async def test_stopped_by_hand(compute: "Compute") -> None:
    container = await frozen(compute)
    assert (await (await compute.proxy()).stop("blog")).lives == ("blog/1.1",)
    assert container.signals == [signal.SIGTERM]
    await until(lambda: asleep(compute))


async def test_started_by_hand(compute: "Compute") -> None:
    await frozen(compute)
    await (await compute.proxy()).start("blog")
    assert compute.running() == ["1"]
    assert "manual" in [event.message for event in await compute.events() if event.kind == "thawed"]


async def test_switched_off(compute: "Compute") -> None:
    await frozen(compute)
    await compute.word("switch", "off")
    await until(lambda: asleep(compute))
    assert (await compute.refused()).code is Code.SWITCHED_OFF


async def test_in_maintenance_it_stays_frozen(compute: "Compute") -> None:
    container = await frozen(compute)
    await compute.word("switch", "maintenance")
    await until(lambda: (app := compute.cache.app("blog")) and app.switch == "maintenance")
    assert (await compute.refused()).code is Code.SWITCHED_OFF
    assert container.group.frozen


async def test_an_edit_stops_it_without_a_successor(compute: "Compute") -> None:
    container = await frozen(compute)
    await compute.edit(env={"B": "2"})
    await until(lambda: asleep(compute))
    assert container.signals == [signal.SIGTERM]
    assert (await compute.wake()).life == "blog/1.2"
    assert compute.container().identity.env == {"B": "2"}  # type: ignore[union-attr]
    assert "replaced" not in await compute.kinds()


async def test_no_longer_to_be_frozen_it_is_stopped(compute: "Compute") -> None:
    await frozen(compute)
    await compute.edit(policy=Policy(idle_s=IDLE_S))
    await until(lambda: asleep(compute))


async def test_new_limits_count_while_it_is_frozen(compute: "Compute") -> None:
    container = await frozen(compute)
    await compute.word("cpu", "40%")
    await until(lambda: container.group.limits.cpu == 0.4)
    assert container.group.frozen


async def test_a_removed_app(compute: "Compute") -> None:
    from dispatcher.coreapi import service

    container = await frozen(compute)
    await service.remove_app(compute.store, "blog")
    await until(lambda: compute.stored() == {} and container.is_closed)


async def test_who_wants_to_look_inside_thaws_it(compute: "Compute") -> None:
    container = await frozen(compute)
    proxy = await compute.proxy()
    door = await proxy.door("blog")
    assert door.life == "blog/1.1"
    assert not container.group.frozen
    await asyncio.sleep(IDLE_S * 3)
    assert not container.group.frozen, "somebody is inside"
    compute.proxies.remove(proxy)
    await proxy.close()
    await until(lambda: container.group.frozen)


# ---- several


async def three(compute: "Compute") -> list[FakeContainer]:
    await compute.app(policy=Policy(idle_s=IDLE_S * 2, start=Start.FROZEN), words={"containers": "3"})
    await compute.wake()
    await until(lambda: compute.running() == ["1", "2", "3"])
    return [compute.container(id) for id in "123"]


def all_frozen(compute: "Compute") -> bool:
    return all(life.is_frozen for life in compute.lives.of("blog").values())


async def test_several_sleep_and_wake_as_a_whole(compute: "Compute") -> None:
    containers = await three(compute)
    proxy = await compute.proxy()
    proxy.traffic("blog/2.1", 1)
    await asyncio.sleep(IDLE_S * 4)
    assert not any(container.group.freezes for container in containers)
    proxy.traffic("blog/2.1", 0)
    await until(lambda: all_frozen(compute))
    assert (await proxy.ensure("blog", "3")).live.container == "3"  # type: ignore[union-attr]
    assert compute.running() == ["1", "2", "3"]
    for id in "123":
        await proxy.until_status("blog", id, Status.RUNNING)
    assert len(compute.runtime.woken) == 3


async def test_one_that_is_used_directly_keeps_all_awake(compute: "Compute") -> None:
    containers = await three(compute)
    containers[1].wire.diag.connect(containers[1].address, 80, "198.51.100.9")
    await asyncio.sleep(IDLE_S * 5)
    assert not any(container.group.freezes for container in containers)
    containers[1].wire.diag.connections.clear()
    await until(lambda: all_frozen(compute))


async def test_their_count_changes_while_they_are_frozen(compute: "Compute") -> None:
    await three(compute)
    await until(lambda: all_frozen(compute))
    await compute.word("containers", "2")
    await until(lambda: compute.statuses() == {"1": "frozen", "2": "frozen"})
    await compute.word("containers", "4")
    await until(lambda: sorted(compute.statuses().values()) == ["frozen", "frozen", "registered", "registered"])
    await compute.wake()
    await until(lambda: len(compute.running()) == 4)


async def test_one_that_died_frozen_is_started_with_the_others(compute: "Compute") -> None:
    containers = await three(compute)
    await until(lambda: all_frozen(compute))
    containers[2].end(signal.SIGKILL)
    await until(lambda: compute.statuses() == {"1": "frozen", "2": "frozen", "3": "failed"} or len(compute.lives) == 2)
    await compute.wake()
    await until(lambda: len(compute.running()) == 3)


# ---- after a former agent


async def restart(compute: "Compute") -> Proxy:
    await compute.stop()
    await compute.start()
    return await compute.proxy()


async def test_a_frozen_one_is_adopted_as_such(compute: "Compute") -> None:
    container = await frozen(compute, words={"memory": "64M"})
    container.group.set_memory(5 << 20)  # the former agent died while it took memory back
    proxy = await restart(compute)
    assert proxy.live["blog", "1"].status is Status.FROZEN
    assert container.group.frozen
    assert container.group.limits.memory_bytes == 64 << 20
    assert compute.life().is_frozen
    answer = await proxy.ensure("blog")
    assert isinstance(answer, Answer)
    assert answer.live.life == "blog/1.1"
    assert len(compute.runtime.woken) == 1


async def test_one_that_was_to_be_frozen_and_is_not_runs(compute: "Compute", monkeypatch: pytest.MonkeyPatch) -> None:
    await compute.app(policy=FREEZES)
    deaf = await compute.proxy(confirms=False)
    await compute.wake(proxy=deaf)
    await deaf.until_status("blog", "1", Status.FROZEN)
    assert not compute.container().group.frozen
    monkeypatch.setattr(lives_module, "REATTACH_S", 5.0)
    proxy = await restart(compute)
    assert proxy.live["blog", "1"].status is Status.RUNNING
    await until(lambda: compute.statuses() == {"1": "running"})


async def test_one_that_the_kernel_was_freezing_runs_again(compute: "Compute") -> None:
    await compute.app(policy=FREEZES)
    await compute.wake()
    compute.container().group.stays_awake = True
    await until(lambda: compute.container().group.frozen)
    await restart(compute)
    assert compute.life().status is Status.RUNNING
    assert not compute.container().group.frozen


async def test_a_frozen_one_whose_time_ended_meanwhile_is_stopped(compute: "Compute") -> None:
    policy = Policy(idle_s=IDLE_S, lifespan_s=0.6, lifespan_jitter=0, start=Start.FROZEN)
    container = await frozen(compute, policy)
    await compute.stop()
    await asyncio.sleep(max(0.0, compute.life().expires - time.time()))
    await compute.start()
    await until(lambda: asleep(compute))
    assert container.signals == [signal.SIGTERM]


async def test_one_that_was_being_stopped_while_frozen_is_stopped(compute: "Compute") -> None:
    container = await frozen(compute)
    container.on_stop = lambda: None  # it takes its time
    deaf = await compute.proxy(confirms=False)
    compute.lives.drain(compute.life(), "enough")
    assert container.group.frozen, "the proxies have not let go yet"
    assert deaf.live["blog", "1"].status is Status.FROZEN
    container.on_stop = lambda: container.end(signal.SIGTERM)
    await restart(compute)
    await until(lambda: asleep(compute))
    assert container.signals == [signal.SIGTERM]


def test_what_a_proxy_is_told_of_a_frozen_one_has_its_address() -> None:
    live = Live("blog", "1", 1, Status.FROZEN, "100.96.0.2:80", turn=3)
    assert live.life == "blog/1.1"


AUTO = Policy(idle_s=IDLE_S, start=Start.AUTO)


async def test_auto_freezes_what_starts_slowly_and_says_why(
    compute: "Compute", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy, "FAST_S", 0.0)
    container = await frozen(compute, AUTO)
    assert container.group.frozen
    (event,) = [event for event in await compute.events() if event.kind == "frozen"]
    assert "a cold start takes" in event.message
    await compute.wake()
    assert len(compute.runtime.woken) == 1
    await until(lambda: container.group.freezes == 2)


async def test_auto_stops_what_starts_quickly_and_says_why(compute: "Compute") -> None:
    await compute.app(policy=AUTO)
    await compute.wake()
    await until(lambda: asleep(compute))
    (event,) = [event for event in await compute.events() if event.kind == "stopped"]
    assert event.message.startswith("idle; a cold start takes 0.0")


async def test_auto_gives_a_host_that_runs_short_its_memory_back(
    compute: "Compute", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy, "FAST_S", 0.0)
    await frozen(compute, AUTO)
    monkeypatch.setattr(choosing, "host", lambda: strategy.Host(1 << 30, 1))
    compute.agent._relieve()
    await until(lambda: asleep(compute))
    events = [event for event in await compute.events() if event.kind == "stopped"]
    assert [event.message for event in events] == ["the host's memory is short"]
    assert "1" in compute.stored()  # its row stays


async def test_auto_does_not_try_again_what_could_not_be_frozen(
    compute: "Compute", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy, "FAST_S", 0.0)
    monkeypatch.setattr(compute.runtime, "maps_users", False)  # no images then
    await compute.app(policy=AUTO)
    await compute.wake()
    compute.container().group.not_freezing = OSError(5, "Input/output error")
    await until(lambda: asleep(compute))
    await compute.wake()
    await until(lambda: asleep(compute))
    stopped = [event.message for event in await compute.events() if event.kind == "stopped"]
    assert stopped == ["idle", "idle; it could not be frozen before"]
