"""What a start of a definition does, in order."""

import pytest

from containerlib import starting
from containerlib.cgroups import Limits
from containerlib.hooks import PHASES, Hook, Moment, Phase
from containerlib.spec import Cgroup, ContainerSpec, Io, Mount, Readiness, Setting, Tmpfs


def watch(container: Moment) -> None: ...


def hook(phase: Phase) -> Hook:
    rule = PHASES[phase]
    return Hook(function=watch, phase=phase, side=rule.side, on_failure=rule.on_failure)


SPEC = ContainerSpec(
    "blog",
    ("php", "-S"),
    env={"A": "1"},
    workdir="/srv",
    mounts=(Mount("/data", "/srv", True), Tmpfs("/cache"), Mount("/up", "/srv/up")),
    cgroup=Cgroup(cpu=0.3, pids=9, io=(Io("8:0", read_bps=5),), settings=(Setting(2, "cpu.weight", "7"),)),
    readiness=Readiness(80, "/up"),
    hooks=tuple(hook(phase) for phase in Phase),
)


def told(spec: ContainerSpec, version: int = 2) -> list[str]:
    return [
        f"{step.where} {step.text}" for step in starting.steps(spec, 70_000, "100.96.0.9", version, "/stage", "/etc-1")
    ]


def position(steps: list[str], text: str) -> int:
    (found,) = [number for number, step in enumerate(steps) if text in step]
    return found


def test_phases_come_where_they_belong() -> None:
    steps = told(SPEC)
    order = [
        "host Hook(setup, watch, limit=10s, on_failure=abort)",
        "host Hook(before_fork",
        "reserve DetachMountTree()",
        "reserve NetworkLink(address='100.96.0.9')",
        "host Hook(after_fork_host",
        "container Hook(after_fork,",
        "host Hook(after_network_created",
        "host Hook(after_network_ready",
        "container Hook(before_root",
        "container SetHostname(name='blog')",
        "container AttachMount(source='/up', target='/srv/up', readonly=False)",
        "container Hook(after_root",
        "container EnterUserNamespace(base=70000)",
        "container Execute(command=('php', '-S'), init=True)",
        "host Hook(after_start",
        "host AwaitListening(port=80, path='/up', timeout=30s)",
        "host Hook(ready",
    ]
    positions = [position(steps, text) for text in order]
    assert positions == sorted(positions)


def test_what_happens_after_a_start_is_not_in_it() -> None:
    assert not [step for step in told(SPEC) if "teardown" in step or "reload" in step or "stop" in step]


@pytest.mark.parametrize(("version", "file"), [(1, "blkio.throttle.read_bps_device"), (2, "io.max")])
def test_limits_of_this_hosts_cgroups(version: int, file: str) -> None:
    steps = told(SPEC, version)
    assert position(steps, f"host WriteCgroup(file='{file}'")
    assert position(steps, "host WriteCgroup(file='pids.max', value='9')")
    assert ("host WriteCgroup(file='cpu.weight', value='7')" in steps) == (version == 2)


def test_a_definition_without_hooks_has_no_gate() -> None:
    plain = ContainerSpec("blog", ("php",), hooks=(hook(Phase.READY), hook(Phase.SETUP)))
    assert starting.gates(plain) == ()
    assert [each.phase for each in starting.gates(SPEC)] == [Phase.AFTER_ROOT]
    assert told(plain)[-1] == "host Hook(ready, watch, limit=10s, on_failure=report)"
    assert told(plain)[-2] == "host Ready()"


def test_the_identity_of_a_spec() -> None:
    identity = starting.identity_of(SPEC, 70_000, "100.96.0.9")
    assert (identity.hostname, identity.uid, identity.command) == ("blog", 70_000, ("php", "-S"))
    assert (identity.mounts, identity.env, identity.workdir) == (("/srv", "/srv/up"), {"A": "1"}, "/srv")
    assert starting.limits_of(SPEC) == Limits(0.3, None, 9)


def test_every_phase_of_a_start_is_in_one_of_its_groups() -> None:
    groups = (*starting.BEFORE_IDENTITY, *starting.AT_THE_GATE, *starting.AFTER_EXEC)
    restored = {Phase.BEFORE_RESTORE, Phase.AFTER_RESTORE}
    assert [phase for phase in Phase if phase not in restored][: len(groups)] == list(groups)
