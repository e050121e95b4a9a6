"""`c`, the one argument of a definition: it collects, checks each word where it stands, and ends in a frozen ContainerSpec."""

from collections.abc import Callable, Iterable
from typing import Any

from containerlib import checks, spec, units
from containerlib.dsl.errors import told, where
from containerlib.dsl.parts import (
    UNLIMITED,
    BootstrapPart,
    CapabilitiesPart,
    CgroupPart,
    NetworkPart,
    Part,
    Texts,
    amount,
    whole_amount,
)
from containerlib.hooks import (
    PHASES,
    TIMEOUT_S,
    CgroupHook,
    Function,
    Hook,
    OnFailure,
    Phase,
    Side,
    SignalHandler,
    Timer,
)
from containerlib.spec.process import LOG_BYTES, STOP_GRACE_S, check_id_base
from containerlib.spec.seccomp import DEFAULT_PROFILE
from containerlib.spec.security import check_namespaces

Duration = str | float


def _seconds(field: str, value: Duration) -> float:
    return amount(field, value, units.parse_duration)


class Builder(Part):
    """A word said twice counts as said last, so that a definition can correct what it inherits; mounts, hooks and such add up."""

    def __init__(self, name: str, source: str) -> None:
        self._name = name
        self._source = source
        self._values: dict[str, Any] = {}
        self._env = Texts("env", checks.variable)
        self._metadata = Texts("metadata", checks.text)
        self._bootstrap = BootstrapPart()
        self._cgroup = CgroupPart()
        self._capabilities = CapabilitiesPart()
        self._network = NetworkPart()
        self._mounts: dict[str, spec.Mount | spec.Tmpfs] = {}
        self._rlimits: dict[str, spec.Rlimit] = {}
        self._hidden = spec.Hidden()
        self._security: dict[str, Any] = {}
        self._hooks: list[Hook] = []
        self._timers: list[Timer] = []
        self._cgroup_hooks: list[CgroupHook] = []
        self._signal_handlers: list[SignalHandler] = []

    # ---- what runs

    @property
    def name(self) -> str:
        """Of the container, even in what it inherits."""
        return self._name

    def command(self, *words: str) -> None:
        """Program and arguments; no shell reads them."""
        with told():
            self._values["command"] = checks.texts("command", words)

    @property
    def env(self) -> Texts:
        return self._env

    @property
    def metadata(self) -> Texts:
        """For people and hooks."""
        return self._metadata

    @property
    def hostname(self) -> str:
        """The container's name unless set."""
        return str(self._values.get("hostname", self._name))

    @hostname.setter
    def hostname(self, value: str) -> None:
        self._values["hostname"] = checks.name("hostname", value)

    @property
    def workdir(self) -> str:
        return str(self._values.get("workdir", "/"))

    @workdir.setter
    def workdir(self, value: str) -> None:
        self._values["workdir"] = checks.absolute_path("workdir", value)

    @property
    def init(self) -> bool:
        """A tiny init is PID 1, reaps and forwards signals; False: the program itself is."""
        return bool(self._values.get("init", True))

    @init.setter
    def init(self, value: bool) -> None:
        self._values["init"] = checks.of_type("init", value, bool, "True or False")

    def user(self, user: int | str, *, group: int | str | None = None, groups: tuple[int | str, ...] = ()) -> None:
        """By number, or by name as the container knows it."""
        with told():
            self._values["user"] = spec.User(user, group, tuple(groups))

    @property
    def id_base(self) -> int | None:
        """The first of the 1,024 ids of the host that are the container's; unless set, a range that nobody else has."""
        return self._values.get("id_base")

    @id_base.setter
    def id_base(self, value: int) -> None:
        self._values["id_base"] = check_id_base(value)

    def stop(self, *, signal: str | int = "TERM", grace: Duration = STOP_GRACE_S) -> None:
        with told():
            self._values["stop"] = spec.Stop(checks.signal_number("stop.signal", signal), _seconds("stop.grace", grace))

    def log(self, *, stdout: str = "", stderr: str = "", bytes_max: str | int = LOG_BYTES) -> None:
        """Files of the host instead of the container's own log."""
        with told():
            self._values["log"] = spec.Log(stdout, stderr, whole_amount("log.bytes_max", bytes_max, units.parse_size))

    # ---- its files

    @property
    def bootstrap(self) -> BootstrapPart:
        return self._bootstrap

    def mount(self, source: str, target: str, *, readonly: bool = False) -> None:
        """A directory or file of the host."""
        with told():
            self._mounts[target] = spec.Mount(source, target, readonly)

    def tmpfs(self, target: str, *, size: str | int = spec.filesystem.TMPFS_BYTES, mode: int = 0o1777) -> None:
        with told():
            self._mounts[target] = spec.Tmpfs(target, whole_amount("tmpfs.size", size, units.parse_size), mode)

    def mask(self, *paths: str) -> None:
        """Hidden, on top of what always is."""
        with told():
            self._hidden = spec.Hidden((*self._hidden.masked, *paths), self._hidden.readonly)

    def readonly(self, *paths: str) -> None:
        with told():
            self._hidden = spec.Hidden(self._hidden.masked, (*self._hidden.readonly, *paths))

    # ---- what it may use and do

    @property
    def cgroup(self) -> CgroupPart:
        return self._cgroup

    @property
    def network(self) -> NetworkPart:
        return self._network

    @property
    def capabilities(self) -> CapabilitiesPart:
        return self._capabilities

    def namespaces(self, *names: str) -> None:
        """All but cgroup are always there; naming them says so to whoever reads it."""
        with told():
            self._values["namespaces"] = check_namespaces(names)

    def rlimit(self, name: str, soft: int | str, hard: int | str | None = None) -> None:
        """`nofile`, `core` ...; "unlimited" is one. Without a hard limit the soft one is it, too."""
        with told():
            low, high = (None if each == UNLIMITED else each for each in (soft, soft if hard is None else hard))
            self._rlimits[name] = spec.Rlimit(name, low, high)  # type: ignore[arg-type]  # checked there

    def seccomp(
        self,
        profile: str = DEFAULT_PROFILE,
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        dangerous: Iterable[str] = (),
    ) -> None:
        """System calls: instead of the usual list a file of the host in the format of OCI runtimes; more or fewer of either."""
        with told():
            self._security["seccomp"] = spec.Seccomp(profile, tuple(allow), tuple(deny), tuple(dangerous))

    def apparmor(self, profile: str) -> None:
        """One that the kernel has loaded."""
        with told():
            self._security["apparmor"] = spec.Security(apparmor=profile).apparmor

    # ---- its life

    def readiness(self, port: int | None = None, *, path: str = "", timeout: Duration = 30.0) -> None:
        with told():
            self._values["readiness"] = spec.Readiness(port, path, _seconds("readiness.timeout", timeout))

    def lifespan(self, length: Duration | None) -> None:
        """From its start; None: no end of its own."""
        with told():
            self._values["lifespan"] = spec.Lifespan(None if length is None else _seconds("lifespan", length))

    def checkpoint(self, *, signal: str | int | None = None, before: str = "") -> None:
        """Images of it may be taken while it runs, to be restored later. `signal` tells its program of a restore. `before` names a
        system call: at a start without an image one is taken right before the program makes it for the first time."""
        with told():
            number = None if signal is None else checks.signal_number("checkpoint.signal", signal)
            self._values["checkpoint"] = spec.Checkpoint(number, before)

    # ---- functions of its own

    def hook(
        self,
        phase: Phase,
        *,
        side: Side | None = None,
        timeout: Duration = TIMEOUT_S,
        on_failure: OnFailure | None = None,
    ) -> Callable[[Function], Function]:
        """Several may be in one phase; they run in the order in which they are written."""
        with told():
            rule = PHASES[Phase(checks.one_of("phase", phase, list(Phase)))]
        return self._decorator(
            lambda function, source: self._hooks.append(
                Hook(
                    function=function,
                    side=Side(side or rule.side),
                    timeout_s=_seconds("timeout", timeout),
                    source=source,
                    phase=Phase(phase),
                    on_failure=OnFailure(on_failure or rule.on_failure),
                )
            )
        )

    def on_ready(self, **options: Any) -> Callable[[Function], Function]:
        return self.hook(Phase.READY, **options)

    def after(
        self, delay: Duration, *, side: Side = Side.HOST, timeout: Duration = TIMEOUT_S
    ) -> Callable[[Function], Function]:
        """Once, so long after the container is ready."""
        return self._timer(delay, None, None, side, timeout)

    def every(
        self,
        interval: Duration,
        *,
        limit: int | None = None,
        after: Duration | None = None,
        side: Side = Side.HOST,
        timeout: Duration = TIMEOUT_S,
    ) -> Callable[[Function], Function]:
        """Again and again, `limit` times at most; the first time `after` so long, or after one interval."""
        interval_s = _seconds("every", interval)
        return self._timer(interval_s if after is None else after, interval_s, limit, side, timeout)

    def _timer(
        self, delay: Duration, interval_s: float | None, limit: int | None, side: Side, timeout: Duration
    ) -> Callable[[Function], Function]:
        return self._decorator(
            lambda function, source: self._timers.append(
                Timer(
                    function=function,
                    side=Side(side),
                    timeout_s=_seconds("timeout", timeout),
                    source=source,
                    delay_s=_seconds("delay", delay),
                    interval_s=interval_s,
                    limit=limit,
                )
            )
        )

    def on_memory_pressure(
        self, level: str = "medium", *, side: Side = Side.HOST, timeout: Duration = TIMEOUT_S
    ) -> Callable[[Function], Function]:
        """`low`, `medium` or `critical`."""
        return self._on_cgroup("pressure", level, side, timeout)

    def on_oom(self, *, side: Side = Side.HOST, timeout: Duration = TIMEOUT_S) -> Callable[[Function], Function]:
        """The kernel killed a process of the container for its memory limit."""
        return self._on_cgroup("oom", "medium", side, timeout)

    def _on_cgroup(self, cause: str, level: str, side: Side, timeout: Duration) -> Callable[[Function], Function]:
        return self._decorator(
            lambda function, source: self._cgroup_hooks.append(
                CgroupHook(
                    function=function,
                    side=Side(side),
                    timeout_s=_seconds("timeout", timeout),
                    source=source,
                    cause=cause,
                    level=level,
                )
            )
        )

    def on_signal(
        self, signal: str | int, *, side: Side = Side.HOST, timeout: Duration = TIMEOUT_S
    ) -> Callable[[Function], Function]:
        """USR1, USR2, TTIN or TTOU, sent to whoever runs the container."""
        return self._decorator(
            lambda function, source: self._signal_handlers.append(
                SignalHandler(
                    function=function,
                    side=Side(side),
                    timeout_s=_seconds("timeout", timeout),
                    source=source,
                    signal=checks.signal_number("signal", signal),
                )
            )
        )

    def _decorator(self, add: Callable[[Function, str], None]) -> Callable[[Function], Function]:
        source = where()

        def decorate(function: Function) -> Function:
            with told(at=source):
                add(function, source)
            return function

        return decorate

    # ---- the end of it

    def _built(self) -> spec.ContainerSpec:
        with told(at=self._source):
            return spec.ContainerSpec(
                name=self._name,
                env=dict(self._env),
                metadata=dict(self._metadata),
                root=self._bootstrap._root,
                mounts=tuple(self._mounts.values()),
                hidden=self._hidden,
                cgroup=self._cgroup._built(),
                rlimits=tuple(self._rlimits.values()),
                security=spec.Security(self._capabilities._names, **self._security),
                network=self._network._built(),
                hooks=tuple(self._hooks),
                timers=tuple(self._timers),
                cgroup_hooks=tuple(self._cgroup_hooks),
                signal_handlers=tuple(self._signal_handlers),
                source=self._source,
                **{"command": (), **self._values},
            )
