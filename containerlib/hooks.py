"""Where a definition's own functions run: phases of a life, timers, the kernel's memory events, signals. Pure.

    PHASES[Phase.AFTER_START].side          # Side.HOST: in a worker process of this host
    list(Phase)                             # in the order in which a life comes by them

A hook of the host's side runs as root in a process of its own, one of the container's side in the container's namespaces, as
root of the container. Either is killed at its time limit. Who runs them is containerlib/standalone.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from signal import Signals
from typing import Any

from containerlib.checks import SpecError, one_of, seconds, signal_number, whole

REPEAT_MIN_S = 0.1


class Phase(StrEnum):
    """In the order of a life. A namespace, the network and the root are made in reserve, before anybody knows for whom: phases
    that follow them tell that they are there, not that they were made this moment."""

    SETUP = "setup"
    BEFORE_FORK = "before_fork"
    AFTER_FORK_HOST = "after_fork_host"
    AFTER_FORK = "after_fork"
    AFTER_NETWORK_CREATED = "after_network_created"
    AFTER_NETWORK_READY = "after_network_ready"
    BEFORE_ROOT = "before_root"
    AFTER_ROOT = "after_root"
    BEFORE_RESTORE = "before_restore"
    AFTER_RESTORE = "after_restore"
    AFTER_START = "after_start"
    READY = "ready"
    AFTER_RELOAD = "after_reload"
    BEFORE_STOP = "before_stop"
    AFTER_FAILURE = "after_failure"
    SYSTEM_FAILURE = "system_failure"
    TEARDOWN_CONTAINER = "teardown_container"
    TEARDOWN = "teardown"


class Side(StrEnum):
    HOST = "host"
    CONTAINER = "container"


class OnFailure(StrEnum):
    ABORT = "abort"  # the start fails, with the hook's message
    REPORT = "report"  # it is told, and the life goes on


@dataclass(frozen=True, slots=True)
class PhaseRule:
    """`side` unless a hook asks for the other, which it may if `either`; `can_abort`: there is still a start to fail."""

    side: Side
    either: bool
    can_abort: bool
    when: str

    @property
    def on_failure(self) -> OnFailure:
        return OnFailure.ABORT if self.can_abort else OnFailure.REPORT


_HOST, _CONTAINER = Side.HOST, Side.CONTAINER
PHASES: Mapping[Phase, PhaseRule] = {
    Phase.SETUP: PhaseRule(_HOST, False, True, "nothing of this life exists yet"),
    Phase.BEFORE_FORK: PhaseRule(_HOST, False, True, "its directory exists; its process is about to"),
    Phase.AFTER_FORK_HOST: PhaseRule(
        _HOST, False, True, "its process waits in namespaces of its own, without a program"
    ),
    Phase.AFTER_FORK: PhaseRule(_CONTAINER, True, True, "the same, seen from inside"),
    Phase.AFTER_NETWORK_CREATED: PhaseRule(_HOST, True, True, "its link exists"),
    Phase.AFTER_NETWORK_READY: PhaseRule(_HOST, True, True, "its address and routes are set"),
    Phase.BEFORE_ROOT: PhaseRule(_CONTAINER, True, True, "its root lacks only the definition's own mounts"),
    Phase.AFTER_ROOT: PhaseRule(_CONTAINER, True, True, "every file is in its place; next the program is executed"),
    Phase.BEFORE_RESTORE: PhaseRule(_HOST, False, True, "instead of a start: an image is about to be restored"),
    Phase.AFTER_RESTORE: PhaseRule(_HOST, True, True, "it was restored and runs"),
    Phase.AFTER_START: PhaseRule(_HOST, True, True, "the program was executed"),
    Phase.READY: PhaseRule(_HOST, True, False, "it is ready, as its readiness says"),
    Phase.AFTER_RELOAD: PhaseRule(_HOST, True, False, "its definition was read anew and applied"),
    Phase.BEFORE_STOP: PhaseRule(_HOST, True, False, "it is about to get its stop signal"),
    Phase.AFTER_FAILURE: PhaseRule(_HOST, False, False, "it did not start, or ended by itself other than with 0"),
    Phase.SYSTEM_FAILURE: PhaseRule(_HOST, False, False, "what runs it failed, not it"),
    Phase.TEARDOWN_CONTAINER: PhaseRule(
        _HOST, False, False, "its processes ended; its cgroup and files are still there"
    ),
    Phase.TEARDOWN: PhaseRule(_HOST, False, False, "nothing of it is left"),
}
TIMEOUT_S = 10.0
CAUSES = ("pressure", "oom")
LEVELS = ("low", "medium", "critical")
# What ends or reloads a container is not for handlers.
SIGNALS = frozenset({Signals.SIGUSR1, Signals.SIGUSR2, Signals.SIGTTIN, Signals.SIGTTOU})


@dataclass(frozen=True, slots=True)
class Moment:
    """What a hook is told of its container. `pid` is the host's number of PID 1, 0 where there is none; `exit_status` as a shell
    would have it, once it has ended; `failure` says why it failed; `cause` which timer, event or signal it was."""

    name: str
    cause: str
    pid: int = 0
    address: str = ""
    hostname: str = ""
    cgroups: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    exit_status: int | None = None
    failure: str = ""


Function = Callable[[Moment], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A function of a definition, where it runs and for how long at most. `source` is its file and line."""

    function: Function
    side: Side = Side.HOST
    timeout_s: float = TIMEOUT_S
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_function(self.function)
        one_of("side", self.side, list(Side))
        seconds("timeout", self.timeout_s)

    @property
    def name(self) -> str:
        return str(getattr(self.function, "__name__", self.function))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook(Task):
    phase: Phase
    on_failure: OnFailure

    def __post_init__(self) -> None:
        Task.__post_init__(self)
        rule = PHASES[Phase(one_of("phase", self.phase, list(Phase)))]
        if self.side is not rule.side and not rule.either:
            raise SpecError("side", str(self.side), f"is not possible in phase {self.phase}: {rule.when}")
        one_of("on_failure", self.on_failure, list(OnFailure))
        if self.on_failure is OnFailure.ABORT and not rule.can_abort:
            raise SpecError("on_failure", "abort", f"is not possible in phase {self.phase}: {rule.when}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer(Task):
    """Counted from the moment at which its container is ready. `interval_s` None: once. `limit` None: for ever."""

    delay_s: float
    interval_s: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        Task.__post_init__(self)
        seconds("delay", self.delay_s, zero=True)
        if self.interval_s is not None and seconds("every", self.interval_s) < REPEAT_MIN_S:
            raise SpecError("every", self.interval_s, f"is not {REPEAT_MIN_S:g} seconds or more")
        if self.limit is not None:
            whole("limit", self.limit, 1, 1 << 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupHook(Task):
    """`cause` is `oom`, or `pressure` from `level` on."""

    cause: str
    level: str = "medium"

    def __post_init__(self) -> None:
        Task.__post_init__(self)
        one_of("cause", self.cause, CAUSES)
        one_of("level", self.level, LEVELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalHandler(Task):
    """Of a signal that whoever runs the container gets, not the container."""

    signal: Signals

    def __post_init__(self) -> None:
        Task.__post_init__(self)
        if signal_number("signal", self.signal) not in SIGNALS:
            known = ", ".join(sorted(each.name.removeprefix("SIG") for each in SIGNALS))
            raise SpecError("signal", self.signal.name.removeprefix("SIG"), f"is none of {known}")


def check_function(function: Any) -> None:
    """Of one argument, the `Moment`; a coroutine would never be awaited."""
    if not callable(function):
        raise SpecError("hook", function, "is not a function")
    if inspect.iscoroutinefunction(function):
        raise SpecError("hook", function.__name__, "is a coroutine: write `def`, it has a process to itself")
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise SpecError("hook", function.__name__, "does not take one argument, the container") from None


def of_phase(hooks: tuple[Hook, ...], phase: Phase) -> tuple[Hook, ...]:
    """In the order of their definition."""
    return tuple(hook for hook in hooks if hook.phase is phase)
