"""What a container is to be: frozen, checked values, one dataclass for each noun. containerlib/dsl.py makes them of a definition.

Whoever holds a `ContainerSpec` holds one that keeps every rule; a rule that is broken raises SpecError when the value is made.
"""

from containerlib.checks import SpecError
from containerlib.spec.checkpoint import Checkpoint
from containerlib.spec.container import ContainerSpec
from containerlib.spec.filesystem import Hidden, Image, Mount, Root, Tmpfs, Usr
from containerlib.spec.lifecycle import Lifespan, Readiness
from containerlib.spec.network import NetworkAccess
from containerlib.spec.process import Log, Stop, User
from containerlib.spec.resources import Cgroup, Io, Rlimit, Setting
from containerlib.spec.seccomp import Seccomp
from containerlib.spec.security import Security

__all__ = [
    "Cgroup",
    "Checkpoint",
    "ContainerSpec",
    "Hidden",
    "Image",
    "Io",
    "Lifespan",
    "Log",
    "Mount",
    "NetworkAccess",
    "Readiness",
    "Rlimit",
    "Root",
    "Seccomp",
    "Security",
    "Setting",
    "SpecError",
    "Stop",
    "Tmpfs",
    "User",
    "Usr",
]
