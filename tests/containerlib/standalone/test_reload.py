"""What of a changed definition can be applied while it runs."""

from dataclasses import replace

import pytest

from containerlib.hooks import Moment, Timer
from containerlib.spec import Cgroup, ContainerSpec, Lifespan, NetworkAccess, Rlimit
from containerlib.standalone.reload import Changes, changes

SPEC = ContainerSpec("web", ("x",))


def tick(container: Moment) -> None: ...


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, Changes((), ())),
        ({"source": "elsewhere.py:9"}, Changes((), ())),
        ({"cgroup": Cgroup(pids=9)}, Changes(("cgroup",), ())),
        ({"command": ("y",), "env": {"A": "1"}}, Changes((), ("command", "env"))),
        ({"lifespan": Lifespan(5), "workdir": "/srv"}, Changes(("lifespan",), ("workdir",))),
        ({"network": NetworkAccess(outbound=False, bandwidth_bps=9_000)}, Changes(("network",), ())),
        ({"network": NetworkAccess("10.0.0.7", bandwidth_bps=9_000)}, Changes((), ("network",))),
        ({"rlimits": (Rlimit("core", 0, 0),)}, Changes(("rlimits",), ())),
        ({"timers": (Timer(function=tick, delay_s=1),)}, Changes(("timers",), ())),
    ],
)
def test_changes(changed: dict[str, object], expected: Changes) -> None:
    assert changes(SPEC, replace(SPEC, **changed)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Changes((), ()), "nothing that could be applied has changed"),
        (Changes(("cgroup", "stop"), ()), "applied: cgroup, stop"),
        (Changes((), ("env",)), "nothing that could be applied has changed; from its next start: env"),
    ],
)
def test_words(found: Changes, words: str) -> None:
    assert found.describe() == words
