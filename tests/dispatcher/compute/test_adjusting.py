"""What changes while it runs, and what wants a new process."""

import msgspec
import pytest

from dispatcher.compute.adjusting import must_restart
from dispatcher.domain import App, AppSpec, Io, Mount, Policy
from tests.dispatcher.compute.conftest import Compute
from tests.plugins.compute import until

SPEC = AppSpec(("php",))
APP = App("blog", SPEC, uid=200_000)


@pytest.mark.parametrize(
    ("changed", "is_new"),
    [
        ({"bandwidth_bps": 9_000}, False),
        ({"io": Io(write_bps=5)}, False),
        ({"policy": Policy(idle_s=3)}, False),
        ({"env": {"A": "1"}}, True),
        ({"mounts": (Mount("/a", "/b"),)}, True),
        ({"io": Io(5), "pids": 9}, True),
    ],
)
def test_what_wants_a_new_process(changed: dict[str, object], is_new: bool) -> None:
    new = msgspec.structs.replace(APP, spec=msgspec.structs.replace(SPEC, **changed))
    assert must_restart(new, APP) is must_restart(APP, new) is is_new


def test_other_limits_do_not_and_other_user_ids_do() -> None:
    assert not must_restart(msgspec.structs.replace(APP, cpu=0.5, memory_bytes=1 << 25), APP)
    assert must_restart(msgspec.structs.replace(APP, uid=300_000), APP)


async def test_io_is_limited_before_it_runs_changed_while_it_does_and_by_the_next_agent(compute: Compute) -> None:
    await compute.app(io=Io(read_bps=7))
    await compute.wake()
    group = compute.container().group
    assert group.io is not None and group.io.read_bps == 7
    await compute.edit(io=Io(write_iops=9))
    await until(lambda: group.io is not None and (group.io.read_bps, group.io.write_iops) == (None, 9))
    group.io = None  # the agent dies in the middle of it
    await compute.stop()
    await compute.start()
    await until(lambda: group.io is not None and group.io.write_iops == 9)
    assert len(compute.runtime.woken) == 1


async def test_who_does_not_ask_is_not_limited(compute: Compute) -> None:
    await compute.app()
    await compute.wake()
    assert compute.container().group.io is None
