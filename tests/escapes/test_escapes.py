"""Ways out of a container, each tried for real: without what holds it, then with each of those protections alone, then with all."""

import json
from pathlib import Path

import pytest

from containerlib.spec.security import ALLOWED, capability_mask
from dispatcher.domain import ImageAt, Policy, Start, Status
from tests.escapes.cases import CASES, Case, rows
from tests.escapes.conftest import ATTACKS, HostWithout, Outcome, outcomes, outcomes_in, start_neighbour, targets
from tests.escapes.launcher import GRANTED, WITHOUT
from tests.plugins.compute import python
from tests.plugins.etcd import EtcdServer

pytestmark = pytest.mark.system

ROWS = list(rows())


def lacks(case: Case) -> bool:
    return bool(case.needs) and not Path(case.needs).exists()


@pytest.mark.parametrize(("case", "removed", "succeeds"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
async def test_escape(outcome: Outcome, case: Case, removed: frozenset[str], succeeds: bool) -> None:
    if lacks(case):
        pytest.skip(f"needs another kernel: one with {case.needs}")
    how = await outcome(case.attack, removed)
    assert how.startswith("escaped: " if succeeds else "held: "), how


async def test_root_with_what_capabilities_a_definition_may_have_has_no_way_out(
    host_without: HostWithout, etcd: EtcdServer
) -> None:
    async with host_without(GRANTED) as host:
        with targets(host, etcd) as found:
            await start_neighbour(host)
            names = [case.attack for case in CASES if case.attack != "setuid" and not lacks(case)]  # it is root already
            how = await outcomes(host, ["root_inside", *names], found)
    assert how.pop("root_inside") == f"escaped: user 0 with {capability_mask(ALLOWED):016x}"
    assert how.pop("end") == ""
    assert {name: word for name, word in how.items() if not word.startswith("held: ")} == {}
    assert set(how) == set(names)


AFTER_LISTENING = """
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append("restored"))
listener = socket.create_server(("0.0.0.0", 80))
print("life", *told or ["cold"], flush=True)
main({names!r})
while True:
    listener.accept()[0].close()
"""


async def test_one_that_can_be_dumped_has_no_way_out_nor_has_one_that_was_restored(
    host_without: HostWithout, etcd: EtcdServer
) -> None:
    """Their namespaces are their own user namespace's, and a restored one was put together by CRIU."""
    names = [case.attack for case in CASES if not lacks(case)]
    policy = Policy(start=Start.RESTORED, image_at=ImageAt.LISTEN, restore_signal="USR1")
    async with host_without() as host:
        with targets(host, etcd) as found:
            await start_neighbour(host)
            program = python(f"{ATTACKS}\n{AFTER_LISTENING.format(names=names)}")
            await host.app("attacker", *program, env={"TARGETS": json.dumps(found)}, policy=policy)
            for generation, life in ((1, "cold"), (2, "restored")):
                await host.wake("attacker")
                await host.until_line("attacker", "out end", generation=generation, within_s=60)
                how = outcomes_in(host.lines("attacker", generation=generation))
                assert how.pop("life") == life
                assert {name: word for name, word in how.items() if not word.startswith("held: ")} == {"end": ""}
                assert set(how) == {*names, "end"}
                await (await host.proxy()).stop("attacker", now=True)
                await host.until_rows("attacker", lambda rows: rows["1"].status is Status.REGISTERED)


def test_every_protection_that_can_be_left_out_holds_something() -> None:
    held = {layer for case in CASES for layer in case.layers}
    assert held == set(WITHOUT) - {"sizes", "file limit"}  # test_bombs.py
