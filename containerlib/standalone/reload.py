"""What of a changed definition can be applied to a container that runs. Pure."""

from dataclasses import dataclass, fields

from containerlib.spec import ContainerSpec

# The kernel changes these under a running program; the rest of them are the runner's own business.
APPLIED = (
    "cgroup", "network", "rlimits", "hooks", "timers", "cgroup_hooks", "signal_handlers", "lifespan", "stop", "metadata",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of fields. `later`: a new life will have them."""

    now: tuple[str, ...]
    later: tuple[str, ...]

    def describe(self) -> str:
        now = f"applied: {', '.join(self.now)}" if self.now else "nothing that could be applied has changed"
        return f"{now}; from its next start: {', '.join(self.later)}" if self.later else now


def changes(old: ContainerSpec, new: ContainerSpec) -> Changes:
    """Functions read anew are never the same ones: where they are there, they count as changed."""
    changed = [each.name for each in fields(old) if each.compare and getattr(old, each.name) != getattr(new, each.name)]
    applied = [name for name in changed if name in APPLIED and (name != "network" or _is_wired_alike(old, new))]
    return Changes(tuple(applied), tuple(name for name in changed if name not in applied))


def _is_wired_alike(old: ContainerSpec, new: ContainerSpec) -> bool:
    """An address is for a whole life."""
    return old.network.address == new.network.address
