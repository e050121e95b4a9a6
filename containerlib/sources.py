"""Where a mount's source lies, found so that no tenant can lead the way.

The agent looks sources up as root on the host. A tenant who may write in one source (`/datapool/blog`) could replace what
another one names (`/datapool/blog/uploads`) by a symbolic link to anything on the host, his neighbour's content included.
So a link is followed only if neither the tenant himself nor any container's user made it.
"""

import errno
import os
import stat
from collections import deque

from containerlib import kernel

CONTAINER_UIDS_FROM = 65_536  # whatever allocates users for containers begins above the 16 bits of people and services
LINKS_MAX = 40  # as in the kernel's own walk


def open_source(path: str) -> int:
    """A descriptor (O_PATH) of what an absolute path names. Raises OSError; PermissionError for a link that leads nowhere good."""
    try:
        return kernel.openat2(path, os.O_PATH | os.O_CLOEXEC, kernel.RESOLVE_NO_SYMLINKS)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    return _follow(path)


def _follow(path: str) -> int:
    """As the kernel does, but each link is looked at first."""
    names = deque(path.split("/"))
    links = 0
    directory = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        while names:
            name = names.popleft()
            if name in ("", "."):
                continue
            found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            status = os.fstat(found)
            if not stat.S_ISLNK(status.st_mode):
                os.close(directory)
                directory = found
                continue
            try:
                target = os.readlink("", dir_fd=found)
            finally:
                os.close(found)
            links += 1
            if status.st_uid >= CONTAINER_UIDS_FROM or links > LINKS_MAX:
                raise PermissionError(0, f"{name!r} in it is a link that user {status.st_uid} made", path)
            names.extendleft(reversed(target.split("/")))
            if target.startswith("/"):
                os.close(directory)
                directory = os.open("/", os.O_PATH | os.O_CLOEXEC)
    except BaseException:
        os.close(directory)
        raise
    return directory
