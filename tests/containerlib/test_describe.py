"""A spec as plain values."""

import json
from signal import Signals

from containerlib.describe import lines, plain
from containerlib.hooks import Hook, Moment, OnFailure, Phase
from containerlib.spec import Cgroup, ContainerSpec, Image, Mount, Stop


def announce(container: Moment) -> None: ...


SPEC = ContainerSpec(
    "blog",
    ("php", "-S"),
    env={"A": "1"},
    root=Image("php@3"),
    cgroup=Cgroup(memory_bytes=1 << 28),
    stop=Stop(Signals.SIGQUIT),
    mounts=(Mount("/data", "/srv"),),
    hooks=(Hook(function=announce, phase=Phase.READY, on_failure=OnFailure.REPORT),),
    source="/etc/blog.py:3",
)


def test_plain_values_are_json() -> None:
    value = json.loads(json.dumps(plain(SPEC)))
    assert value["root"] == {"reference": "php@3", "bootstrap": None, "steps": []}
    assert value["stop"] == {"signal": "QUIT", "grace_s": 10.0}
    assert value["cgroup"]["memory_bytes"] == 1 << 28
    assert (value["hooks"][0]["function"], value["hooks"][0]["phase"]) == ("announce", "ready")
    assert plain(ContainerSpec("a", ("x",)))["root"] == {"usr": True}


def test_lines_tell_what_is_not_as_always() -> None:
    told = dict(lines(SPEC))
    assert told == {
        "name": "blog",
        "command": "php -S",
        "env.A": "1",
        "root.reference": "php@3",
        "mounts": "source=/data target=/srv readonly=False",
        "cgroup.memory_bytes": str(1 << 28),
        "stop.signal": "QUIT",
        "hooks": "function=announce side=host timeout_s=10.0 phase=ready on_failure=report",
        "source": "/etc/blog.py:3",
    }
