"""What programs of a build may use together, and what becomes of their groups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from containerlib import bounds, cgroups, process
from containerlib.bounds import bounded, usual
from containerlib.cgroups import Limits

ROOT = Path(__file__).parents[2]
GB = 1 << 30


@pytest.mark.parametrize(
    ("cores", "memory", "expected"),
    [
        (1, GB, Limits(1.0, GB // 2, bounds.PIDS)),
        (2, 4 * GB, Limits(1.0, 2 * GB, bounds.PIDS)),
        (16, 64 * GB, Limits(8.0, 32 * GB, bounds.PIDS)),
    ],
)
def test_half_of_the_host_and_a_processor_at_least(cores: int, memory: int, expected: Limits) -> None:
    assert usual(cores, memory) == expected


def test_this_host_has_room_for_a_build() -> None:
    assert (bounds.usual_here().memory_bytes or 0) > 64 << 20


TREE = f"fctest-builds-{os.getpid()}"


@pytest.mark.system
def test_a_group_is_named_by_who_builds_and_goes_with_the_tree() -> None:
    with bounded(Limits(pids=7), TREE) as group, bounded(Limits(), TREE) as other:
        start = process.start_time(os.getpid())
        assert group.name.startswith(f"{os.getpid()}-{start}-") and other.name != group.name
        assert group.tree.names() == {group.name, other.name}
    assert not any(each.exists() for each in group.tree.bases.values())


@pytest.mark.system
def test_the_group_of_a_builder_that_died_goes_with_the_next_build() -> None:
    program = (
        "import os, sys\nsys.path.insert(0, sys.argv[1])\nfrom containerlib.bounds import Limits, bounded\n"
        "with bounded(Limits(), sys.argv[2]):\n    os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, ROOT, TREE], check=False).returncode == 9
    (left,) = cgroups.find(TREE).names()
    recycled = cgroups.find(TREE).create(f"{os.getpid()}-1-1")  # this number was another process's
    with bounded(Limits(), TREE) as group:
        assert group.tree.names() == {group.name}
    assert left != group.name and recycled.tree.names() == set()
