"""A leak is a failure of the test that made it: tasks, children, descriptors; after system tests also what the kernel holds.

What a fixture of a wider scope holds was there before its first test and is no leak.
"""

import asyncio
import contextlib
import gc
import inspect
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from containerlib.cgroups.tree import CONTROLLERS_V1
from dispatcher.quickstart import cgroup

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
    """A link does not tell whose it is: what was there while others ran containers in this network never counts."""
    found = {f"network namespace {path}" for path in Path("/run/netns").glob("*")}
    if shutil.which("nft"):
        found |= {f"nft {line}" for line in subprocess.check_output(["nft", "list", "tables"], text=True).splitlines()}
    found |= {f"link {path.name}" for path in Path("/sys/class/net").iterdir()}
    if others_run():
        _perhaps_theirs.update(found)
    return frozenset(found - _perhaps_theirs)


_perhaps_theirs: set[str] = set()


def others_run() -> bool:
    own_network = Path("/proc/self/ns/net").readlink()  # the other part of this run has another (tests/beside.py)
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_launcher = b"/launcher.py\0" in (path / "cmdline").read_bytes()  # tests/escapes has another
            is_ours = is_launcher and OWN_GROUP in (path / "cgroup").read_text()
            if is_launcher and not is_ours and (path / "ns/net").readlink() == own_network:
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue
    return False


# With cgroup v1 an agent's groups lie below its own, so that a group for this run tells ours from those of other runs.
OWN_GROUP = f"fastcontainer-tests-{os.getpid()}"


def _v1_groups() -> list[Path]:
    """Where this process is."""
    if os.geteuid() != 0:
        return []
    return [
        path for path in cgroup.directories(cgroup.own_groups()) if path.is_dir() and path.parts[4] in CONTROLLERS_V1
    ]


def pytest_sessionstart() -> None:
    for path in _v1_groups():
        for group in path.glob("fastcontainer-tests-*"):
            if not Path("/proc", group.name.rpartition("-")[2]).exists():  # one that begins is not in its group yet
                _remove(group)  # of a run whose last children ended after it
        (path / OWN_GROUP).mkdir(exist_ok=True)
        (path / OWN_GROUP / "cgroup.procs").write_text("0")


def pytest_unconfigure() -> None:
    for path in _v1_groups():
        if path.name == OWN_GROUP:
            # With us what ends after us, such as multiprocessing's tracker: a group with somebody in it would stay.
            for pid in (path / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    (path.parent / "cgroup.procs").write_text(pid)
            _remove(path)


def _remove(group: Path) -> None:
    """Unless somebody is in it."""
    with contextlib.suppress(OSError):
        group.rmdir()


SYSTEMDS_OWN = re.compile(r".*\.(service|scope|slice|socket|mount|swap)")


def cgroups() -> Things:
    """Below the groups of this process, and at the top of cgroup v2 what systemd did not make."""
    tops = [Path("/sys/fs/cgroup")] if Path("/sys/fs/cgroup/cgroup.controllers").exists() else _v1_groups()
    found = set()
    for top in tops:
        for directory, below, _ in os.walk(top):
            found.add(f"cgroup {directory}")
            below[:] = [name for name in below if not SYSTEMDS_OWN.fullmatch(name)]
    return frozenset(found)


def processes() -> Things:
    """Of this run, whoever their parent is by now: a container's init outlives the launcher that made it."""
    return frozenset(
        f"process {pid}" for path in _v1_groups()[:1] for pid in (path / "cgroup.procs").read_text().split()
    )


CHECKS: tuple[Callable[[], Things], ...] = (open_files, children)
KERNEL_CHECKS: tuple[Callable[[], Things], ...] = (mounts, network, cgroups, processes)


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
