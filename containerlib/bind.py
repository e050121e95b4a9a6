"""A directory or file of the host that a container sees at a place of its own."""

import os
from dataclasses import dataclass

from containerlib import kernel
from containerlib.handle import StartFailed
from containerlib.sources import open_source


@dataclass(frozen=True, slots=True)
class BindMount:
    source: str
    target: str
    readonly: bool


def open_mount(bind: BindMount) -> int:
    """A descriptor of a detached mount. Raises StartFailed."""
    flags = kernel.OPEN_TREE_CLONE | kernel.OPEN_TREE_CLOEXEC | kernel.AT_RECURSIVE
    try:
        found = open_source(bind.source)
        try:
            fd = kernel.open_tree(f"/proc/self/fd/{found}", flags)
        finally:
            os.close(found)
    except FileNotFoundError as error:
        raise StartFailed(f"mount source {bind.source!r} does not exist on this host") from error
    except OSError as error:
        raise StartFailed(f"mount source {bind.source!r}: {error.strerror}") from error
    attributes = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV | (kernel.MOUNT_ATTR_RDONLY if bind.readonly else 0)
    try:
        kernel.mount_setattr(fd, attributes)
    except OSError as error:
        os.close(fd)
        raise StartFailed(f"mount source {bind.source!r}: {error.strerror}") from error
    return fd
