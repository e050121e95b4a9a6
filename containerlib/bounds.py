"""What a program of an image build may use of this host: a control group of its own, which goes with it.

    with bounded(usual(cores, memory_bytes)) as group:
        ...                                         # a process writes 0 to each of group.entrances(), and is in

A group is named by the builder's number, the time at which that process began, and a count. So whoever builds next can tell
whose builder has died, and removes it; a dead builder's program may live a moment longer, and its keeper removes it (cell.py).
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from containerlib import cgroups, process
from containerlib.cgroups import Group, Limits, Tree
from containerlib.units import format_memory

TREE = "fastcontainer-builds"
PIDS = 1024
_ATTEMPTS = 5  # another builder removes the tree when it was its last user
_counter = itertools.count(1)


def usual(cores: int, memory_bytes: int) -> Limits:
    """Of a host with so much: half of it, and a processor at least; what is served meanwhile has the other half. Pure."""
    return Limits(cpu=max(1.0, cores / 2), memory_bytes=memory_bytes // 2, pids=PIDS)


def usual_here() -> Limits:
    return usual(os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


@contextmanager
def bounded(limits: Limits, tree: str = TREE) -> Iterator[Group]:
    """Whatever was in it has to have ended by the end of the block. Raises OSError that says what this host lacks."""
    _remove_dead(cgroups.find(tree))
    group = _create(tree, f"{os.getpid()}-{process.start_time(os.getpid())}-{next(_counter)}")
    try:
        group.set_limits(limits)
        yield group
    finally:
        group.remove()
        with suppress(OSError):  # others build
            group.tree.remove()


def _create(tree: str, name: str) -> Group:
    for _ in range(_ATTEMPTS):
        try:
            return cgroups.find(tree).create(name)
        except FileNotFoundError as error:
            gone = error
    raise gone


def _remove_dead(tree: Tree) -> None:
    for name in tree.names():
        pid, _, rest = name.partition("-")
        started = rest.partition("-")[0]
        if pid.isdigit() and str(process.start_time(int(pid))) != started:
            with suppress(OSError):  # its keeper is at it
                tree.group(name).remove(wait_s=0.0)


def complaint(group: Group, limits: Limits) -> str:
    """What it wanted more of than it may have, and what to do; empty if nothing."""
    if limits.memory_bytes is not None and group.oom_kills():
        most = format_memory(limits.memory_bytes)
        return f"it used more memory than the build may, {most}, and the kernel killed it: allow more (--memory), or use less"
    if limits.pids is not None and group.pids_refused():
        return f"it wanted more processes than the build may have, {limits.pids}: allow more (--pids), or start fewer"
    return ""
