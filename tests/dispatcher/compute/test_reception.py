"""The socket's side of the agent, where test_agent.py does not pass by."""

from typing import TYPE_CHECKING

import pytest

from dispatcher.compute.digest import KEPT
from dispatcher.compute.protocol import Digest, Enter, Refused, Responses, Traffic
from dispatcher.domain import Status
from dispatcher.problems import Code
from tests.plugins.compute import until

if TYPE_CHECKING:
    from tests.dispatcher.compute.conftest import Compute


async def test_a_door_leads_into_what_runs_and_keeps_it_awake(compute: "Compute") -> None:
    await compute.app(workdir="/srv", env={"A": "1"})
    await compute.wake()
    proxy = await compute.proxy()
    door = await proxy.door("blog")
    assert (door.life, door.workdir, door.env, door.pid) == ("blog/1.1", "/srv", {"A": "1"}, compute.container().pid)
    assert compute.life().visitors
    compute.proxies.remove(proxy)
    await proxy.close()
    await until(lambda: not compute.life().visitors)


@pytest.mark.parametrize(("container", "named"), [("", "blog"), ("7", "blog/7")])
async def test_no_door_leads_into_what_sleeps(compute: "Compute", container: str, named: str) -> None:
    await compute.app()
    answer = await (await compute.proxy())._ask(lambda id: Enter(id, "blog", container))
    assert isinstance(answer, Refused)
    assert (answer.code, answer.hint) == (Code.UNKNOWN_CONTAINER, "wake it first: fastcontainer start blog")
    assert f"no container of {named} runs" in answer.message


async def test_a_confirmation_of_an_earlier_turn_is_none(compute: "Compute") -> None:
    """What a proxy said of a freeze that was taken back says nothing of the stop after it."""
    await compute.app()
    live = await compute.wake()
    proxy = await compute.proxy(confirms=False)
    compute.lives.freeze(compute.life())
    compute.lives.thaw(compute.life())
    compute.lives.drain(compute.life(), "enough")
    await proxy.until_status("blog", "1", Status.DRAINING)
    assert proxy.live["blog", "1"].turn == 2
    proxy.say(Traffic({live.life: 0}, 1))
    proxy.say(Traffic({"nobody/1.1": 0}, 1))
    await until(lambda: len(compute.life().awaited) == 1)  # the one that `wake` brought has confirmed
    await (await compute.proxy()).start("nobody")  # answered after all that was said before
    assert not compute.container().signals
    proxy.confirm(proxy.live["blog", "1"])
    await until(lambda: not compute.lives.of("blog"))


async def test_what_a_lane_measured_is_kept_for_a_minute(compute: "Compute") -> None:
    await compute.app()
    live = await compute.wake()
    proxy = await compute.proxy()
    for second in range(KEPT + 5):
        proxy.say(Responses({live.life: Digest(float(second), 7), "nobody/1.1": Digest(0.0, 1)}))
    await until(lambda: len(compute.life().responses) == KEPT and compute.life().responses[-1].at == KEPT + 4)
    assert compute.life().responses[0] == Digest(5.0, 7)
