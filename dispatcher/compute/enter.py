"""Into a container by the door that its agent showed; a problem where it is not there any more."""

import os
from collections.abc import Sequence

from containerlib import enter as inside
from dispatcher.compute.protocol import Door
from dispatcher.problems import Code, Problem


def enter(door: Door, command: Sequence[str]) -> int:
    """The command's exit code; 128 and the number of the signal that ended it. A shell if `command` is empty."""
    if os.geteuid() != 0:
        raise Problem(Code.FORBIDDEN, "only root can enter a container", hint="sudo fastcontainer exec ...")
    try:
        return inside.enter(inside.Door(door.life, door.pid, door.cgroups, door.uid, door.workdir, door.env), command)
    except inside.Ended as error:
        raise Problem(Code.CONTAINER_DIED, str(error), hint="fastcontainer ps") from error
