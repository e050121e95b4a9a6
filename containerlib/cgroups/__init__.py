"""Control groups of containers, on whichever version this machine has.

tree = cgroups.find("fastcontainer")      # probes once; raises OSError that says what is missing
group = tree.create("17"); group.entrances()  # a process writes 0 to each
group.write(tree.files(Limits(cpu=0.3, memory_bytes=256 << 20, pids=100)))
group.remove()
"""

from containerlib.cgroups.limits import IoLimits, Limits
from containerlib.cgroups.tree import Group, Tree, find

__all__ = ["Group", "IoLimits", "Limits", "Tree", "find"]
