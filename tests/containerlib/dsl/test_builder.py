"""What a definition says, as a spec."""

from collections.abc import Callable
from signal import Signals
from typing import Any

import pytest

from containerlib.dsl import DefinitionError
from containerlib.hooks import OnFailure, Phase, Side
from containerlib.spec import ContainerSpec, Hidden, Log, Mount, Readiness, Rlimit, Seccomp, Security, Stop, Tmpfs, User

Said = Callable[..., ContainerSpec]
RUNS = 'c.command("php", "-S")'


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("pass", "command", ("php", "-S")),
        ('c.command("sh")', "command", ("sh",)),
        ('c.env["A"] = 1; c.env.update(B="2")', "env", {"A": "1", "B": "2"}),
        ('c.metadata["team"] = "web"', "metadata", {"team": "web"}),
        ('c.hostname = "www"', "host_name", "www"),
        ("c.hostname = c.name", "host_name", "site"),
        ('c.workdir = "/srv"', "workdir", "/srv"),
        ("c.init = False", "init", False),
        ("c.id_base = 300_000", "id_base", 300_000),
        ('c.user("www-data", group=33, groups=("adm",))', "user", User("www-data", 33, ("adm",))),
        ('c.stop(signal="QUIT", grace="3s")', "stop", Stop(Signals.SIGQUIT, 3.0)),
        ('c.log(stdout="/var/log/x", bytes_max="1M")', "log", Log("/var/log/x", "", 1 << 20)),
        ('c.mount("/data", "/srv", readonly=True)', "mounts", (Mount("/data", "/srv", True),)),
        (
            'c.mount("/data", "/srv"); c.tmpfs("/srv", size="1M", mode=0o755)',
            "mounts",
            (Tmpfs("/srv", 1 << 20, 0o755),),
        ),
        ('c.mask("/proc/version"); c.mask("/x"); c.readonly("/y")', "hidden", Hidden(("/proc/version", "/x"), ("/y",))),
        (
            'c.namespaces("mount", "pid", "ipc", "uts", "net", "user")',
            "namespaces",
            ("mount", "pid", "ipc", "uts", "net", "user"),
        ),
        ('c.rlimit("nofile", 5)', "rlimits", (Rlimit("nofile", 5, 5),)),
        ('c.rlimit("core", 0, "unlimited"); c.rlimit("core", "unlimited")', "rlimits", (Rlimit("core", None, None),)),
        ('c.seccomp("/etc/x.json"); c.apparmor("web")', "security", Security((), Seccomp("/etc/x.json"), "web")),
        (
            "c.seccomp(allow=['mseal'], deny=['chmod'])",
            "security",
            Security((), Seccomp(allow=("mseal",), deny=("chmod",))),
        ),
        ('c.readiness(port=80, path="/up", timeout="1m")', "readiness", Readiness(80, "/up", 60.0)),
    ],
)
def test_says(said: Said, line: str, field: str, value: object) -> None:
    assert getattr(said(RUNS, line), field) == value


def test_lifespan(said: Said) -> None:
    assert said(RUNS, 'c.lifespan("1h")').lifespan.seconds == 3600
    assert said(RUNS, 'c.lifespan("1h")', "c.lifespan(None)").lifespan.seconds is None


def test_hooks_in_their_order_with_their_phases_rules(said: Said) -> None:
    spec = said(
        RUNS,
        "@c.hook(Phase.SETUP)",
        "def first(container): ...",
        '@c.hook("after_root", timeout="1s", on_failure=OnFailure.REPORT)',
        "def second(container): ...",
        "@c.on_ready(side=Side.CONTAINER)",
        "def third(container): ...",
    )
    assert [(each.phase, each.name, each.side) for each in spec.hooks] == [
        (Phase.SETUP, "first", Side.HOST),
        (Phase.AFTER_ROOT, "second", Side.CONTAINER),
        (Phase.READY, "third", Side.CONTAINER),
    ]
    assert [each.on_failure for each in spec.hooks] == [OnFailure.ABORT, OnFailure.REPORT, OnFailure.REPORT]
    assert [each.timeout_s for each in spec.hooks] == [10, 1, 10]
    assert [each.source.rpartition(":")[2] for each in spec.hooks] == ["5", "7", "9"]


def test_timers(said: Said) -> None:
    spec = said(
        RUNS,
        '@c.after("10s")',
        "def once(container): ...",
        '@c.every("30s", limit=3, after=0)',
        "def often(container): ...",
        '@c.every("1m", side="container")',
        "def for_ever(container): ...",
    )
    assert [(each.delay_s, each.interval_s, each.limit, each.side) for each in spec.timers] == [
        (10, None, None, Side.HOST),
        (0, 30, 3, Side.HOST),
        (60, 60, None, Side.CONTAINER),
    ]


def test_events(said: Said) -> None:
    spec = said(
        RUNS,
        '@c.on_memory_pressure("critical")',
        "def pressure(container): ...",
        "@c.on_oom()",
        "def oom(container): ...",
        '@c.on_signal("USR1")',
        "def poke(container): ...",
    )
    assert [(each.cause, each.level) for each in spec.cgroup_hooks] == [("pressure", "critical"), ("oom", "medium")]
    assert [each.signal for each in spec.signal_handlers] == [Signals.SIGUSR1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('c.comand("x")', "'comand' is unknown; did you mean 'command'?"),
        ('c.hostnme = "x"', "'hostnme' is unknown; did you mean 'hostname'?"),
        ('c.command = ["x"]', "'command' cannot be set"),
        ('c.command("a", 7)', "command: 7 is not a text"),
        ('c.hostname = "a_b"', "hostname: 'a_b' is not 1 to 63"),
        ('c.mount("data", "/srv")', "mount.source: 'data' is not an absolute path"),
        ('c.tmpfs("/srv", size="big")', "tmpfs.size: 'big' is not a number of bytes"),
        ("c.readiness(port=0)", "readiness.port: 0 is not from 1"),
        ('c.lifespan("ages")', "lifespan: 'ages' is not a length of time"),
        ('c.stop(signal="STOPIT")', "stop.signal: 'STOPIT' is not a signal"),
        ('c.rlimit("nofile", "many")', "rlimit nofile: 'many' is not a whole number"),
        ('c.hook("never")(print)', "phase: 'never' is none of"),
        ('c.hook(Phase.READY, on_failure="abort")(print)', "on_failure: 'abort' is not possible in phase ready"),
        ('c.hook(Phase.SETUP, side="container")(print)', "side: 'container' is not possible in phase setup"),
        ('c.hook(Phase.SETUP, side="moon")(print)', "'moon' is not a valid Side"),
        ('c.hook(Phase.SETUP)("print")', "hook: 'print' is not a function"),
        ('c.every("1ms")(print)', "every: '1ms' is not a length of time"),
        ('c.on_signal("TERM")(print)', "signal: 'TERM' is none of"),
        ('c.on_memory_pressure("high")(print)', "level: 'high' is none of"),
    ],
)
def test_an_error_has_the_line_that_made_it(said: Said, line: str, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        said(RUNS, line)
    error: Any = caught.value
    assert error.where.endswith("site.py:5")
    assert message in error.message


def test_what_only_shows_in_the_end_is_told_of_the_definition(said: Said) -> None:
    with pytest.raises(DefinitionError, match=r"site.py:2: command: \(\) names no program"):
        said("pass")
