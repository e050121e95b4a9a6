"""What a start of a definition does, in order."""

from typing import Any

import pytest

from containerlib import starting
from containerlib.cgroups import Limits
from containerlib.checks import SpecError
from containerlib.hooks import PHASES, Hook, Moment, Phase
from containerlib.spec import (
    Cgroup,
    ContainerSpec,
    Hidden,
    Image,
    Io,
    Mount,
    NetworkAccess,
    Readiness,
    Rlimit,
    Seccomp,
    Security,
    Setting,
    Tmpfs,
    User,
)

OVER = "something mounted right over one of its mounts"


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


def test_a_definition_without_anything_to_do_there_has_no_gate() -> None:
    plain = ContainerSpec("blog", ("php",), hooks=(hook(Phase.READY), hook(Phase.SETUP)))
    assert not starting.has_gate(plain)
    assert told(plain)[-2:] == ["host Ready()", "host Hook(ready, watch, limit=10s, on_failure=report)"]


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"hooks": (hook(Phase.AFTER_ROOT),)}, "container Hook(after_root, watch, limit=10s, on_failure=abort)"),
        (
            {"mounts": (Tmpfs("/cache", 4096),)},
            "container MountTmpfs(path='/cache', size_bytes=4096, inodes=100000, devices=False)",
        ),
        (
            {"hidden": Hidden(masked=("/proc/version",))},
            "container Mask(path='/proc/version', null='/dev/null', empty='')",
        ),
        ({"hidden": Hidden(readonly=("/srv",))}, "container BindReadonly(source='/srv', target='/srv')"),
        ({"rlimits": (Rlimit("nofile", 9, None),)}, "host SetRlimit(name='nofile', soft=9, hard=None)"),
    ],
)
def test_what_is_done_at_the_gate_is_done_before_the_user_namespace(changes: dict[str, Any], step: str) -> None:
    spec = ContainerSpec("blog", ("php",), mounts=changes.pop("mounts", ()), **changes)
    assert starting.has_gate(spec)
    steps = told(spec)
    assert position(steps, "SetHostname") < position(steps, step) < position(steps, "EnterUserNamespace")


def test_a_profile_is_named_before_exec_and_after_everything_else() -> None:
    steps = told(ContainerSpec("blog", ("php",), security=Security(apparmor="web")))
    assert (
        position(steps, "ChangeDirectory")
        < position(steps, "ConfineOnExec(profile='web')")
        < position(steps, "Execute(")
    )


def test_a_list_of_system_calls_of_its_own_is_loaded_last() -> None:
    steps = told(ContainerSpec("blog", ("php",), security=Security(seccomp=Seccomp(deny=("chmod",)))))
    assert position(steps, "ChangeDirectory") < position(steps, "LoadFilter(") < position(steps, "Execute(")


def test_the_root_of_an_image_comes_before_what_lies_in_it() -> None:
    spec = ContainerSpec("blog", (), root=Image("php"), mounts=(Mount("/data", "/srv"), Tmpfs("/cache")))
    assert starting.has_gate(spec)
    steps = told(spec)
    order = ["host OpenRoot(image='php'", "container EnterRoot(keeps=", "WriteFile(path='/etc/hosts')", "target='/srv'",
             "MountTmpfs(path='/cache'", "EnterUserNamespace"]  # fmt: skip
    positions = [position(steps, text) for text in order]
    assert positions == sorted(positions)
    assert starting.identity_of(spec, 70_000, "").mounts == ()


def test_what_it_may_reach_is_granted_before_it_starts() -> None:
    network = NetworkAccess(outbound=False, host_services=(25,), bandwidth_bps=8_000)
    steps = told(ContainerSpec("blog", ("php",), network=network))
    granted = "host Grant(address='100.96.0.9', NetworkPolicy(outbound=False, host_ports=(25,), bandwidth_bps=8000))"
    assert position(steps, granted) < position(steps, "SetHostname")


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (User(), (1000, None, ())),
        (User(33, 34, (4,)), (33, 34, (4,))),
        (User("root"), (0, None, ())),
        (User("www-data", "www-data"), (33, 33, ())),
        (User("nobody", "nogroup", ("app",)), (65534, 65534, (1000,))),
    ],
)
def test_users(user: User, expected: tuple[object, ...]) -> None:
    identity = starting.identity_of(ContainerSpec("blog", ("php",), user=user), 70_000, "")
    assert (identity.user, identity.group, identity.groups) == expected


@pytest.mark.parametrize("user", [User("mysql"), User(0, "nobody"), User(0, groups=("adm",))])
def test_a_user_whom_nobody_knows(user: User) -> None:
    with pytest.raises(SpecError, match="is none of root, app"):
        starting.identity_of(ContainerSpec("blog", ("php",), user=user), 70_000, "")


def test_the_identity_of_a_spec() -> None:
    identity = starting.identity_of(SPEC, 70_000, "100.96.0.9")
    assert (identity.hostname, identity.uid, identity.command) == ("blog", 70_000, ("php", "-S"))
    assert (identity.mounts, identity.env, identity.workdir) == (("/srv", "/srv/up"), {"A": "1"}, "/srv")
    assert starting.limits_of(SPEC) == Limits(0.3, None, 9)


def test_every_phase_of_a_start_is_in_one_of_its_groups() -> None:
    groups = (*starting.BEFORE_IDENTITY, *starting.AT_THE_GATE, *starting.AFTER_EXEC)
    restored = {Phase.BEFORE_RESTORE, Phase.AFTER_RESTORE}
    assert [phase for phase in Phase if phase not in restored][: len(groups)] == list(groups)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({}, []),
        (
            {"mounts": (Mount("/x", "/data"), Tmpfs("/cache")), "hidden": Hidden(("/data/secret", "/srv"), ("/var",))},
            [],
        ),
        ({"root": Image("php")}, ["bootstrap.image"]),
        ({"security": Security(apparmor="web")}, ["apparmor"]),
        ({"mounts": (Mount("/x", "/data"),), "hidden": Hidden(("/data",))}, [OVER]),
        ({"mounts": (Tmpfs("/etc"),)}, [OVER]),
        ({"hidden": Hidden((), ("/usr",))}, [OVER]),
    ],
)
def test_what_an_image_of_processes_cannot_hold(body: dict[str, Any], found: list[str]) -> None:
    assert starting.not_dumpable(ContainerSpec("web", ("x",), **body)) == found
