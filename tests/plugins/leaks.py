"""A leak is a failure of the test that made it: tasks, children, descriptors; after system tests also what the kernel holds.

What a fixture of a wider scope holds was there before its first test and is no leak.
"""

import asyncio
import gc
import inspect
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

PATIENCE_S = 3.0  # for what is being closed this very moment, by gRPC in a thread of its own
KERNEL_PATIENCE_S = 5.0  # network namespaces are destroyed in the background

# Opened once by a library and kept for the life of the process (gRPC's pollers, the random source, time zones).
KEPT_FOR_EVER = re.compile(
    r"anon_inode:\[event(poll|fd)\]|/dev/u?random|/dev/null|/usr/share/zoneinfo/.*|.*/__pycache__/.*"
)

Things = frozenset[str]


def open_files() -> Things:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:  # the descriptor of this very listing
            continue
        if not KEPT_FOR_EVER.fullmatch(target) and target != f"/proc/{os.getpid()}/fd":
            found.add(f"fd {entry.name} -> {target}")
    return frozenset(found)


def children() -> Things:
    found = set()
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            pids = path.read_text().split()
        except FileNotFoundError:
            continue
        found.update(f"process {pid} {_command(pid)}" for pid in pids)
    return frozenset(found)


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip() or "(zombie)"
    except (FileNotFoundError, ProcessLookupError):
        return "(gone)"


def mounts() -> Things:
    points = (line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return frozenset(f"mount {point}" for point in points)


def network() -> Things:
    namespaces = {f"network namespace {path}" for path in Path("/run/netns").glob("*")}
    return frozenset(namespaces | {f"link {path.name}" for path in Path("/sys/class/net").iterdir()})


SYSTEMDS_OWN = re.compile(r".*\.(service|scope|slice|socket|mount|swap)")


def cgroups() -> Things:
    """Below the groups of this process, and at the top of cgroup v2 what systemd did not make."""
    tops = [Path("/sys/fs/cgroup")] if Path("/sys/fs/cgroup/cgroup.controllers").exists() else []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        tops += [Path("/sys/fs/cgroup", name, path.lstrip("/")) for name in controllers.split(",") if "=" not in name]
    found = set()
    for top in tops:
        for directory, below, _ in os.walk(top):
            found.add(f"cgroup {directory}")
            below[:] = [name for name in below if not SYSTEMDS_OWN.fullmatch(name)]
    return frozenset(found)


CHECKS: tuple[Callable[[], Things], ...] = (open_files, children)
KERNEL_CHECKS: tuple[Callable[[], Things], ...] = (mounts, network, cgroups)


def wait_for_rest(check: Callable[[], Things], before: Things, patience_s: float) -> Things:
    """What `check` finds more than `before`, once it has had time to go."""
    if not check() - before:
        return frozenset()
    gc.collect()
    deadline = time.monotonic() + patience_s
    while (rest := check() - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    return rest


@pytest.fixture
async def _no_task_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=PATIENCE_S)
    if left:
        names = "\n".join(f"  {task.get_name()}: {task.get_coro()}" for task in left)
        pytest.fail(f"asyncio tasks left behind:\n{names}")


@pytest.fixture(autouse=True)
def _no_leak(request: pytest.FixtureRequest) -> Iterator[None]:
    is_system = any(request.node.get_closest_marker(name) for name in ("system", "chaos"))
    checks = [(check, PATIENCE_S) for check in CHECKS]
    # A whole installation makes and takes blanks all the time; its own fixture looks after what they leave.
    if is_system and "installation" not in request.fixturenames:
        checks += [(check, KERNEL_PATIENCE_S) for check in KERNEL_CHECKS]
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_no_task_left")  # first, for the event loop that comes with it ends after us
    before = [(check, check(), patience_s) for check, patience_s in checks]
    yield
    left = [thing for check, seen, patience_s in before for thing in sorted(wait_for_rest(check, seen, patience_s))]
    if left:
        pytest.fail("left behind:\n" + "\n".join(f"  {thing}" for thing in left))
