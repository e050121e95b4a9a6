"""What a live container could do, by the door that its agent showed; a problem where it is not there any more."""

import os

from containerlib import enter, observed, security
from containerlib.security import Finding
from dispatcher.compute.protocol import Door
from dispatcher.problems import Code, Problem


def audit(door: Door) -> tuple[Finding, ...]:
    """The gravest first."""
    if os.geteuid() != 0:
        raise Problem(Code.FORBIDDEN, "only root can look into a container", hint="sudo fastcontainer audit ...")
    inside = enter.Door(door.life, door.pid, door.cgroups, door.uid, door.workdir, door.env)
    try:
        return security.audit(observed.observe(inside))
    except enter.Ended as error:
        raise Problem(Code.CONTAINER_DIED, str(error), hint="fastcontainer ps") from error
