"""The real launcher, less the protections that it is told to leave out: so an escape can be seen to succeed without them.

    python -SI tests/escapes/launcher.py SOCKET STAGE PROTECTION...

The product has no switch for this: names in its modules are replaced here, before it runs. What the program is called is also
told to containers' own test programs: the environment and the session keyring of this process hold a secret.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, NoReturn, TypeGuard

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from containerlib import blank, kernel, launcher
from containerlib.operations import (
    AttachMount,
    AttachShared,
    BecomeUser,
    BindReadonly,
    EmptyBoundingSet,
    EnterCgroupNamespace,
    EnterRoot,
    ForbidNewPrivileges,
    LeaveSessionKeyring,
    LimitResource,
    LoadFilter,
    Mask,
    MountTmpfs,
    Operation,
)
from containerlib.spec.security import ALLOWED, capability_mask

KEY = b"fastcontainer-escapes"
_NR_ADD_KEY = {"x86_64": 248, "aarch64": 217}
_SESSION_KEYRING = -3

Change = Callable[[Operation], tuple[Operation, ...]]


class Nothing(Operation):
    def execute(self) -> None:
        pass


class BecomeRoot(Operation):
    """Of the user namespace that this process is in, with every capability over it."""

    def execute(self) -> None:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)


@dataclass(frozen=True, slots=True)
class OnlyChangeRoot(Operation):
    """The host's files stay where they are, above this root."""

    path: str

    def execute(self) -> None:
        os.chdir(self.path)
        os.chroot(".")


@dataclass(frozen=True, slots=True)
class ForgetMountFlags(Operation):
    path: str

    def execute(self) -> None:
        kernel.mount("none", self.path, "", kernel.MS_REMOUNT | kernel.MS_BIND)


@dataclass(frozen=True, slots=True)
class MountWritableSysfs(Operation):
    path: str

    def execute(self) -> None:
        kernel.mount("sysfs", self.path, "sysfs", 0)


@dataclass(frozen=True, slots=True)
class EnterNetwork(Operation):
    fd: int

    def execute(self) -> None:
        os.setns(self.fd, os.CLONE_NEWNET)
        os.close(self.fd)


def drop(*kinds: type[Operation], below: str = "") -> Change:
    """`below`: only those whose target has this in it."""

    def change(operation: Operation) -> tuple[Operation, ...]:
        dropped = isinstance(operation, kinds) and below in getattr(operation, "target", "")
        return () if dropped else (operation,)

    return change


def change_plans(change: Change) -> None:
    for name in ("blank_plan", "identity_plan"):
        setattr(blank, name, _changed(getattr(blank, name), change))


def _changed(make: Callable[..., tuple[Operation, ...]], change: Change) -> Callable[..., tuple[Operation, ...]]:
    return lambda *words, **named: tuple(new for each in make(*words, **named) for new in change(each))


# ---- each leaves out one protection


def without_filter() -> None:
    blank.LoadFilter = lambda _: Nothing()  # type: ignore[assignment, misc]


def with_privileges() -> None:
    """It becomes root, and keeps root's capabilities: those of its user namespace, or the host's if it has none."""
    change_plans(lambda each: (BecomeRoot(),) if isinstance(each, BecomeUser) else (each,))
    change_plans(drop(EmptyBoundingSet))


def without_user_namespace() -> None:
    _wrap_run(lambda named: named.update(mapped=False))


def without_pid_namespace() -> None:
    launcher.os = SimpleNamespace(**{**vars(os), "unshare": lambda _: None})  # type: ignore[assignment]


def without_ipc_namespace() -> None:
    blank.NAMESPACES &= ~os.CLONE_NEWIPC


def without_net_namespace() -> None:
    """The agent has wired the blank's own by now: the host's is entered on waking."""
    _wrap_run(lambda _: namespaces.append(os.open("/proc/self/ns/net", os.O_RDONLY)))
    namespaces: list[int] = []
    _before_privileges_end(lambda: (EnterNetwork(namespaces[0]),))
    _filter_late()


def without_nosuid() -> None:
    """Of mounts that the agent made."""
    change_plans(lambda each: (each, ForgetMountFlags(each.target)) if isinstance(each, AttachMount) else (each,))
    _filter_late()


def without_pivot() -> None:
    """A user namespace cannot be made inside of a mere chroot: that one goes, too."""
    change_plans(lambda each: (OnlyChangeRoot(each.path),) if isinstance(each, EnterRoot) else (each,))
    without_user_namespace()


def is_sysfs(operation: Operation) -> TypeGuard[AttachShared]:
    return isinstance(operation, AttachShared) and operation.target.endswith("/sys")


def without_sizes() -> None:
    change_plans(
        lambda each: (replace(each, size_bytes=1 << 30, inodes=1 << 20),) if isinstance(each, MountTmpfs) else (each,)
    )


def _wrap_run(change: Callable[[dict[str, Any]], object]) -> None:
    run = blank.run

    def changed(*words: Any, **named: Any) -> NoReturn:
        change(named)
        run(*words, **named)

    blank.run = changed


def _before_privileges_end(make: Callable[[], tuple[Operation, ...]]) -> None:
    change_plans(lambda each: (*make(), each) if isinstance(each, EnterCgroupNamespace) else (each,))


def _filter_late() -> None:
    """What is done on waking instead needs calls that the filter refuses."""
    filters: list[LoadFilter] = []

    def remember(program: bytes) -> Operation:
        filters.append(LoadFilter(program))
        return Nothing()

    if blank.LoadFilter is LoadFilter:  # and not left out altogether
        blank.LoadFilter = remember  # type: ignore[assignment, misc]
        _before_privileges_end(lambda: tuple(filters))


WITHOUT: dict[str, Callable[[], None]] = {
    "filter": without_filter,
    "no capabilities": with_privileges,
    "user namespace": without_user_namespace,
    "pid namespace": without_pid_namespace,
    "ipc namespace": without_ipc_namespace,
    "net namespace": without_net_namespace,
    "nosuid": without_nosuid,
    "nodev": lambda: change_plans(
        lambda each: (replace(each, devices=True),) if isinstance(each, MountTmpfs) else (each,)
    ),
    "no new privileges": lambda: change_plans(drop(ForbidNewPrivileges)),
    "pivot_root": without_pivot,
    "read-only proc": lambda: change_plans(drop(BindReadonly, below="/proc/")),
    "masks": lambda: change_plans(drop(Mask)),
    "read-only sys": lambda: change_plans(
        lambda each: (MountWritableSysfs(each.target),) if is_sysfs(each) else (each,)
    ),
    "session keyring": lambda: change_plans(drop(LeaveSessionKeyring)),
    "sizes": without_sizes,
    "file limit": lambda: change_plans(drop(LimitResource)),
}


def with_what_a_definition_may_have() -> None:
    """Root inside, with every capability that one may ask for."""
    mask = capability_mask(ALLOWED)

    def change(operation: Operation) -> tuple[Operation, ...]:
        match operation:
            case BecomeUser():
                return (BecomeUser(0, capabilities=mask),)
            case EmptyBoundingSet():  # before it enters its user namespace, too, which changes nothing then
                return (EmptyBoundingSet(mask),)
        return (operation,)

    change_plans(change)


GRANTED = "what a definition may have"


def keep_a_secret() -> None:
    """In a session keyring of this process's own, not of whoever runs the tests."""
    kernel.join_session_keyring()
    libc = ctypes.CDLL(None, use_errno=True)
    secret = b"secret"
    number = _NR_ADD_KEY[os.uname().machine]
    if libc.syscall(number, b"user", KEY, secret, ctypes.c_size_t(len(secret)), _SESSION_KEYRING) < 0:
        raise OSError(ctypes.get_errno(), "add_key")


if __name__ == "__main__":
    keep_a_secret()
    removed, sys.argv[3:] = sys.argv[3:], []
    for name in WITHOUT:  # in this order: a filter that is left out is not to be loaded late
        if name in removed:
            WITHOUT[name]()
    if GRANTED in removed:
        with_what_a_definition_may_have()
    launcher.main()
