"""What a start of a definition does, in order. Pure: it prints without root.

Whoever runs it (containerlib/standalone) and whoever only asks what would happen (`inspect --plan`) read the same values here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace

from containerlib import plan
from containerlib.cgroups import Limits, limits, settings
from containerlib.cgroups.limits import FileContent
from containerlib.checks import SpecError
from containerlib.firewall import USUAL, NetworkPolicy
from containerlib.hooks import Phase, of_phase
from containerlib.identity import Identity
from containerlib.idmap import APP_USER, NOBODY
from containerlib.operations import AttachMount, BindReadonly, MakeDirectory, Mask, MountTmpfs, Operation, PauseAtGate
from containerlib.spec import ContainerSpec, Hidden, Image, Mount, Seccomp, Tmpfs
from containerlib.spec.security import capability_mask
from containerlib.userns import EnterUserNamespace, UserNamespace

# Before a program runs. Those of the first group come to pass before its identity is known to the waiting process, those of the
# second between its last file and its program: the process pauses there, if anybody asked for it.
BEFORE_IDENTITY = (
    Phase.SETUP,
    Phase.BEFORE_FORK,
    Phase.AFTER_FORK_HOST,
    Phase.AFTER_FORK,
    Phase.AFTER_NETWORK_CREATED,
    Phase.AFTER_NETWORK_READY,
    Phase.BEFORE_ROOT,
)
AT_THE_GATE = (Phase.AFTER_ROOT,)
TMPFS_INODES = 100_000
WWW_DATA = 33
FILES_OF_ETC = ("hosts", "hostname", "resolv.conf")  # instead of an image's own
AFTER_EXEC = (Phase.AFTER_START, Phase.READY)


@dataclass(frozen=True, slots=True)
class Step:
    """`where`: reserve, host, container."""

    where: str
    text: str


def limits_of(spec: ContainerSpec) -> Limits:
    return Limits(spec.cgroup.cpu, spec.cgroup.memory_bytes, spec.cgroup.pids)


def policy_of(spec: ContainerSpec) -> NetworkPolicy:
    return NetworkPolicy(spec.network.outbound, spec.network.host_services, spec.network.bandwidth_bps)


def cgroup_contents(spec: ContainerSpec, version: int, devices: Mapping[str, str]) -> tuple[FileContent, ...]:
    return (*limits.contents(version, limits_of(spec)), *settings.contents(version, spec.cgroup, devices))


def binds(spec: ContainerSpec) -> tuple[Mount, ...]:
    return tuple(each for each in spec.mounts if isinstance(each, Mount))


def identity_of(spec: ContainerSpec, uid: int, address: str) -> Identity:
    """`uid`: the first of its ids on the host. Raises SpecError for a user whom its root does not know."""
    group = spec.user.group
    return Identity(
        hostname=spec.host_name,
        uid=uid,
        command=spec.command,
        workdir=spec.workdir or "/",
        env=dict(spec.env),
        mounts=() if isinstance(spec.root, Image) else tuple(each.target for each in binds(spec)),
        address=address,
        init=spec.init,
        user=APP_USER if spec.user.user is None else number_of("user", spec.user.user),
        group=None if group is None else number_of("group", group),
        groups=tuple(number_of("groups", each) for each in spec.user.groups),
        capabilities=capability_mask(spec.security.capabilities),
        apparmor=spec.security.apparmor,
    )


# Of the generated files of a container with the host's /usr (plan.py).
_KNOWN = {
    "user": {"root": 0, "app": APP_USER, "www-data": WWW_DATA, "nobody": NOBODY},
    "group": {"root": 0, "app": APP_USER, "www-data": WWW_DATA, "nogroup": NOBODY},
}


def number_of(field: str, word: int | str) -> int:
    """`field`: user, group or groups. Raises SpecError."""
    if not isinstance(word, str):
        return word
    known = _KNOWN["user" if field == "user" else "group"]
    if word not in known:
        raise SpecError(field, word, f"is none of {', '.join(known)}, which the container knows; others go by number")
    return known[word]


_FROM_OUTSIDE = frozenset({"/usr", "/etc"})


def not_dumpable(spec: ContainerSpec) -> list[str]:
    """What an image of its processes could not hold, and what a start that is to be dumped therefore refuses."""
    outside = _FROM_OUTSIDE.union(each.target for each in binds(spec))
    above = {each.target for each in spec.mounts if isinstance(each, Tmpfs)}.union(*astuple(spec.hidden))
    found = {
        "bootstrap.image": isinstance(spec.root, Image),
        # CRIU knows what came from outside by where it is mounted, and would take what lies on top for that.
        "something mounted right over one of its mounts": bool(outside & above),
        "apparmor": bool(spec.security.apparmor),
    }
    return [name for name, is_asked in found.items() if is_asked]


def has_gate(spec: ContainerSpec) -> bool:
    """Its process has to pause: for hooks, or for what is mounted over its files and set from outside at the last moment."""
    over_files = any(isinstance(each, Tmpfs) for each in spec.mounts) or spec.hidden != Hidden()
    return (
        isinstance(spec.root, Image)
        or over_files
        or bool(spec.rlimits)
        or any(hook.phase in AT_THE_GATE for hook in spec.hooks)
    )


def steps(spec: ContainerSpec, uid: int, address: str, version: int, stage: str, etc: str) -> Iterator[Step]:
    """As far as they can be told beforehand: `uid`, `address` and the version of cgroups are those of a host."""
    yield from _hooks(spec, (Phase.SETUP, Phase.BEFORE_FORK))
    for operation in plan.blank_plan(stage, etc, shared=plan.SharedMounts(-1, -1)):
        yield Step("reserve", operation.describe())
    yield Step("reserve", f"NetworkLink(address={address!r})")
    yield from _hooks(spec, BEFORE_IDENTITY[2:])
    for content in cgroup_contents(spec, version, {io.device: io.device for io in spec.cgroup.io}):
        yield Step("host", f"WriteCgroup(file={content.name!r}, value={content.value!r})")
    if (policy := policy_of(spec)) != USUAL:
        yield Step("host", f"Grant(address={address!r}, {policy})")
    identity = replace(identity_of(spec, uid, address), gate=has_gate(spec))
    # Descriptors have no numbers yet; the source says more.
    fds = tuple(range(len(identity.mounts)))
    made = (
        *plan.naming_plan(identity, mapped=True),
        *plan.identity_plan(identity, fds, (1, 2), UserNamespace(-1, -1, -1)),
    )
    for operation in made:
        if isinstance(operation, PauseAtGate):
            yield from _at_gate(spec, uid)
        else:
            yield Step("container", _describe(operation, spec))
    if spec.security.seccomp != Seccomp():
        yield Step("container", f"LoadFilter({spec.security.seccomp})")
    yield Step("container", f"Execute(command={spec.command or "the image's own"!r}, init={spec.init})")
    yield from _hooks(spec, (Phase.AFTER_START,))
    yield Step("host", _readiness(spec))
    yield from _hooks(spec, (Phase.READY,))


def files_at_gate(spec: ContainerSpec) -> list[Operation]:
    """What is mounted over its files once they are all there."""
    made: list[Operation] = []
    for each in spec.mounts:
        if isinstance(each, Tmpfs):
            made += [
                MakeDirectory(each.target),
                MountTmpfs(each.target, each.size_bytes, TMPFS_INODES, devices=False),
                MakeDirectory(each.target, each.mode),
            ]
    made += [BindReadonly(path, path) for path in spec.hidden.readonly]
    return made + [Mask(path, "/dev/null") for path in spec.hidden.masked]


def _root(spec: ContainerSpec, base: int) -> Iterator[Step]:
    """Of an image; the definition's mounts are attached in it."""
    if isinstance(spec.root, Image):
        limits = f"size_bytes={plan.ROOT_BYTES}, inodes={plan.ROOT_INODES}"
        yield Step("host", f"OpenRoot(image={spec.root.reference!r}, {limits}, base={base})")
        yield Step("container", "EnterRoot(keeps=('/proc', '/sys', '/dev'))")
        yield from (Step("container", f"WriteFile(path='/etc/{name}')") for name in FILES_OF_ETC)
        yield Step("container", f"AttachMount(source={plan.INIT!r}, target={plan.INIT!r}, readonly=True)")
        yield from (Step("container", _attachment(each)) for each in binds(spec))


def _at_gate(spec: ContainerSpec, base: int) -> Iterator[Step]:
    yield from _root(spec, base)
    for operation in files_at_gate(spec):
        yield Step("container", operation.describe())
    yield from _hooks(spec, AT_THE_GATE)
    for limit in spec.rlimits:
        yield Step("host", f"SetRlimit(name={limit.name!r}, soft={limit.soft}, hard={limit.hard})")


def _describe(operation: Operation, spec: ContainerSpec) -> str:
    """Descriptors and compiled filters are numbers of a start that happens; what they stand for says more."""
    match operation:
        case AttachMount():
            source = next(each for each in binds(spec) if each.target == operation.target)
            return _attachment(source)
        case EnterUserNamespace():
            return f"EnterUserNamespace(base={operation.base})"
    return operation.describe()


def _attachment(bind: Mount) -> str:
    return f"AttachMount(source={bind.source!r}, target={bind.target!r}, readonly={bind.readonly})"


def _hooks(spec: ContainerSpec, phases: tuple[Phase, ...]) -> Iterator[Step]:
    for phase in phases:
        for hook in of_phase(spec.hooks, phase):
            limit = f"{hook.timeout_s:g}s"
            yield Step(hook.side, f"Hook({phase}, {hook.name}, limit={limit}, on_failure={hook.on_failure})")


def _readiness(spec: ContainerSpec) -> str:
    ready = spec.readiness
    if ready.port is None:
        return "Ready()"
    path = f", path={ready.path!r}" if ready.path else ""
    return f"AwaitListening(port={ready.port}{path}, timeout={ready.timeout_s:g}s)"
