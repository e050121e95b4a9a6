"""What an app comes to by its definition: where a key of its spec is at its default, the definition says what it is. Pure.

app = applied(app, definition)          # as the agent decides by
wanted = container_spec(app, definition)    # as it is started
"""

from dataclasses import fields, replace
from typing import Any

import msgspec

from containerlib import spec
from containerlib.spec import ContainerSpec
from containerlib.standalone.reload import APPLIED
from dispatcher.domain import App, AppSpec, Mount, Policy

_DEFAULT, _POLICY, _STOP, _READY = AppSpec(("x",)), Policy(), spec.Stop(), spec.Readiness()

_IN_APP = {"name", "source", "command", "env", "workdir", "root", "mounts", "init", "readiness", "network"}


def applied(app: App, definition: ContainerSpec) -> App:
    values = {name: value for name, value in _of_spec(definition).items() if _is_default(app.spec, _DEFAULT, name)}
    policy = {
        name: value for name, value in _of_policy(definition).items() if _is_default(app.spec.policy, _POLICY, name)
    }
    mounts = {each.target: each for each in (*_mounts(definition), *app.spec.mounts)}
    made = msgspec.structs.replace(
        app.spec,
        **values,
        command=app.spec.command or definition.command,
        mounts=tuple(mounts.values()),
        env={**definition.env, **app.spec.env},
        policy=msgspec.structs.replace(app.spec.policy, **policy),
    )
    limits = definition.cgroup
    return msgspec.structs.replace(
        app,
        spec=made,
        cpu=limits.cpu if app.cpu is None else app.cpu,
        memory_bytes=limits.memory_bytes if app.memory_bytes is None else app.memory_bytes,
    )


def _is_default(given: Any, default: Any, name: str) -> bool:
    return bool(getattr(given, name) == getattr(default, name))


def _of_spec(definition: ContainerSpec) -> dict[str, Any]:
    root = definition.root
    return {
        "image": root.reference if isinstance(root, spec.Image) else "",
        "port": definition.readiness.port or _DEFAULT.port,
        "workdir": definition.workdir or _DEFAULT.workdir,
        "pids": definition.cgroup.pids,
        "outbound": definition.network.outbound,
        "host_ports": definition.network.host_services,
        "bandwidth_bps": definition.network.bandwidth_bps,
        "init": definition.init,
    }


def _of_policy(definition: ContainerSpec) -> dict[str, Any]:
    """Where it says nothing the platform's own defaults hold, which are shorter for a stop."""
    ready, values = definition.readiness, dict[str, Any]()
    if ready.timeout_s != _READY.timeout_s:
        values["start_timeout_s"] = ready.timeout_s
    if ready.path:
        values["health_path"] = ready.path
    if definition.lifespan.seconds is not None:
        values["lifespan_s"] = definition.lifespan.seconds
    if definition.stop.grace_s != _STOP.grace_s:
        values["stop_grace_s"] = definition.stop.grace_s
    return values


def _mounts(definition: ContainerSpec) -> tuple[Mount, ...]:
    binds = (each for each in definition.mounts if isinstance(each, spec.Mount))
    return tuple(Mount(each.source, each.target, each.readonly) for each in binds)


def container_spec(app: App, definition: ContainerSpec | None) -> ContainerSpec:
    """`app`: with its definition applied. Raises SpecError."""
    asked = app.spec
    base = definition or ContainerSpec(name=app.name, command=("x",))
    tmpfs = (each for each in base.mounts if isinstance(each, spec.Tmpfs))
    return replace(
        base,
        name=app.name,
        command=asked.command,
        env=asked.env,
        workdir="" if asked.workdir == _DEFAULT.workdir else asked.workdir,
        root=spec.Image(asked.image) if asked.image else spec.Usr(),
        mounts=(*(spec.Mount(each.source, each.target, each.readonly) for each in asked.mounts), *tmpfs),
        init=asked.init,
    )


def not_for_apps(definition: ContainerSpec) -> list[str]:
    """What only a container by itself can have: the platform chooses it."""
    found = {
        "checkpoint": definition.checkpoint is not None,
        "id_base": definition.id_base is not None,
        "network.address": bool(definition.network.address),
        "log": definition.log != spec.Log(),
        "signal handlers": bool(definition.signal_handlers),
        "a version of an image": isinstance(definition.root, spec.Image) and "@" in definition.root.reference,
    }
    return [name for name, is_asked in found.items() if is_asked]


def needs_new_life(old: ContainerSpec | None, new: ContainerSpec | None) -> bool:
    """Beyond what is in the spec of the app as well. Functions are read anew under a running container, limits are its app's."""
    if old is None or new is None:
        return old is not new
    own = {each.name for each in fields(old)} - _IN_APP - (set(APPLIED) - {"rlimits"})
    return any(getattr(old, name) != getattr(new, name) for name in own) or _by_hand(old) != _by_hand(new)


def _by_hand(definition: ContainerSpec) -> tuple[object, ...]:
    """What the fields that its app has, too, hold beyond that."""
    tmpfs = tuple(each for each in definition.mounts if isinstance(each, spec.Tmpfs))
    return tmpfs, definition.cgroup.io, definition.cgroup.settings
