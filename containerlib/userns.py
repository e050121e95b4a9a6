"""A user namespace made before it is known whose ids it will map, and entered when it is. Standard library only.

It is made last and entered last: the container's other namespaces belong to the host's user namespace, so that not even root inside
may mount, change addresses or set a host name.
"""

import os
from dataclasses import dataclass
from typing import NoReturn

from containerlib import idmap
from containerlib.operations import Operation


@dataclass(frozen=True, slots=True)
class UserNamespace:
    """One whose ids are not mapped yet, as descriptors: whoever holds them, with root outside, maps and enters it."""

    fd: int
    uid_map: int
    gid_map: int

    def close(self) -> None:
        for fd in (self.fd, self.uid_map, self.gid_map):
            os.close(fd)


def make_user_namespace() -> UserNamespace:
    """Of a child that ends at once: entering it later is a matter of microseconds, and nobody else has to write the map. /proc must
    be that of our own pid namespace. Raises OSError where the kernel allows none."""
    told, tell = os.pipe()
    hold, go = os.pipe()
    child = os.fork()
    if child == 0:
        _unshare_user(tell, hold, go)
    try:
        os.close(tell)
        os.close(hold)
        if failure := os.read(told, 16):
            number = int(failure)
            raise OSError(number, os.strerror(number), "unshare CLONE_NEWUSER")
        flags = os.O_WRONLY | os.O_CLOEXEC
        fd = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        return UserNamespace(fd, *(os.open(f"/proc/{child}/{name}", flags) for name in ("uid_map", "gid_map")))
    finally:
        os.close(told)
        os.close(go)
        os.waitpid(child, 0)


def _unshare_user(tell: int, hold: int, go: int) -> NoReturn:
    """Says that it is done by closing its end of the pipe."""
    try:
        os.close(go)
        try:
            os.unshare(os.CLONE_NEWUSER)
        except OSError as error:
            os.write(tell, str(error.errno).encode())
        os.close(tell)
        os.read(hold, 1)
    finally:
        os._exit(0)


@dataclass(frozen=True, slots=True)
class EnterUserNamespace(Operation):
    """`base`: of the app's ids on the host. From here on this process has capabilities over nothing but its own ids: the other
    namespaces belong to the host's."""

    prepared: UserNamespace
    base: int

    def execute(self) -> None:
        text = idmap.map_text(self.base).encode()
        for fd in (self.prepared.uid_map, self.prepared.gid_map):
            os.write(fd, text)
        os.setns(self.prepared.fd, os.CLONE_NEWUSER)
        self.prepared.close()
