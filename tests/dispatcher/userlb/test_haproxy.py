import pytest

from dispatcher.userlb import config
from dispatcher.userlb.config import COLD
from dispatcher.userlb.haproxy import CommandFailed
from dispatcher.userlb.lanes import Allow, Close, Open, Route, Slot, SlotId, Unroute

SLOT = SlotId("lane1", 1)


async def test_what_was_done_is_read_back(front) -> None:
    assert (await front.runtime.info()).description == config.description(config.text(front.pool))
    fresh = await front.runtime.read()
    assert (fresh.routes, fresh.policies, fresh.slots) == ({}, {}, {})
    commands = [Open(SLOT, "127.0.0.1:5", 3), Allow("lane1", "1:2", True), Route("*.a.test", "lane1", True)]
    await front.runtime.do([*commands, Route("b.test", COLD, True)])
    actual = await front.runtime.read()
    assert actual.routes == {"*.a.test": "lane1", "b.test": COLD}
    assert actual.policies == {"lane1": "1:2"}
    assert actual.slots == {SLOT: Slot("127.0.0.1:5", 3, is_open=True)}
    assert (await front.runtime.read_lanes(["lane1"])).slots == actual.slots
    assert (await front.runtime.read_lanes(["lane0"])).slots == {}
    await front.runtime.do(
        [Route("b.test", "lane1", False), Unroute("*.a.test"), Close(SLOT), Allow("lane1", "3:4", False)]
    )
    actual = await front.runtime.read()
    assert actual.routes == {"b.test": "lane1"}
    assert actual.policies == {"lane1": "3:4"}
    assert not actual.slots[SLOT].is_open


async def test_a_refused_command_is_named(front) -> None:
    with pytest.raises(CommandFailed, match=r"set server lane9/s1 state maint: No such"):
        await front.runtime.do([Route("a.test", COLD, True), Close(SlotId("lane9", 0))])
    with pytest.raises(CommandFailed, match=r"del map .* b.test"):
        await front.runtime.do([Unroute("b.test")])


async def test_more_commands_than_fit_on_a_line(front) -> None:
    await front.runtime.do([Route(f"{number}.{'x' * 60}.test", COLD, True) for number in range(1000)])
    assert len((await front.runtime.read()).routes) == 1000


async def test_nobody_answers(front) -> None:
    with pytest.raises(OSError):
        await type(front.runtime)(config.Pool((), ("127.0.0.1:1",), (), "/nonexistent")).info()
