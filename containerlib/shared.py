"""/sys and /dev, which all containers share: mounted once, in a mount namespace that nobody is in.

    kept = keep()               # the launcher, once
    mounts = kept.take()        # a blank, before it has a mount namespace of its own

A file system for each container is dear: some kilobytes of it, an inode for each device, and for 64 more on the host every memory
control group grows by 1 KB. What is mounted nowhere can be copied from 6.15 on only; what is mounted in a namespace, by whoever is
there, from 5.2 on. The namespace holds nothing of the host's: nothing that the host unmounts is pinned here.
A sysfs shows the links of the network namespace that it was mounted in: this one's is gone, so there are none. A program that asks
for its links by netlink, ioctl or /proc/net/dev is told of its own.
"""

import os
from dataclasses import dataclass
from typing import NoReturn

from containerlib import kernel
from containerlib.operations import DetachMountTree, EnterRoot, MakeDirectory, MountSysfs, MountTmpfs, SealDevices
from containerlib.plan import SharedMounts, device_plan

SYS, DEV = "/sys", "/dev"
SCAFFOLD = "/proc"  # any directory that is surely there: it is covered in a namespace of our own
BYTES, INODES = 1 << 20, 64


@dataclass(frozen=True, slots=True)
class Kept:
    """Descriptors of mount namespaces."""

    namespace: int
    own: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        return self.namespace, self.own

    def take(self) -> SharedMounts:
        """Detached copies. Raises OSError. Whoever calls has one thread, and is at its namespace's root afterwards."""
        os.setns(self.namespace, os.CLONE_NEWNS)
        try:
            return SharedMounts(_copy(SYS), _copy(DEV))
        finally:
            os.setns(self.own, os.CLONE_NEWNS)

    def close(self) -> None:
        for fd in self.descriptors:
            os.close(fd)


def _copy(path: str) -> int:
    return kernel.open_tree(path, kernel.OPEN_TREE_CLONE | kernel.OPEN_TREE_CLOEXEC)


def keep() -> Kept | None:
    """None where the kernel, or whoever confines us, does not let us: then each container has its own. For one thread only."""
    try:
        kept = Kept(_make(), os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return None
    try:
        for fd in kept.take():
            os.close(fd)
    except OSError:
        kept.close()
        return None
    return kept


def _make() -> int:
    """A child goes there and ends when we hold what it has made."""
    ours, theirs = os.pipe()
    go, hold = os.pipe()
    child = os.fork()
    if child == 0:
        _furnish(theirs, go, (ours, hold))
    os.close(theirs)
    os.close(go)
    try:
        if os.read(ours, 1) != b"!":
            raise OSError("the shared mounts could not be made")
        return os.open(f"/proc/{child}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ours)
        os.close(hold)
        os.waitpid(child, 0)


def _furnish(tell: int, go: int, others: tuple[int, ...]) -> NoReturn:
    try:
        for fd in others:
            os.close(fd)
        os.unshare(os.CLONE_NEWNS | os.CLONE_NEWNET)
        for operation in (
            DetachMountTree(),
            MountTmpfs(SCAFFOLD, BYTES, INODES),
            MakeDirectory(f"{SCAFFOLD}{SYS}"),
            MakeDirectory(f"{SCAFFOLD}{DEV}"),
            EnterRoot(SCAFFOLD),
            MountSysfs(SYS),
            MountTmpfs(DEV, BYTES, INODES),
            *device_plan(DEV),
            SealDevices(DEV),
        ):
            operation.execute()
        os.write(tell, b"!")
        os.read(go, 1)
    finally:
        os._exit(0)
