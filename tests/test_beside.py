"""The two parts of a whole run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.beside import below_sysfs
from tests.plugins.parts import BESIDE, OUTSIDE, is_beside

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("addons/test_routing.py", True),
        ("containerlib/images/test_build.py", True),
        ("containerlib/bootstrap/test_debootstrap.py", False),
        ("acceptance/test_wake.py", False),
        ("test_repository.py", False),
        ("somewhere_new/test_x.py", False),
    ],
)
def test_in_which_part_a_file_is(path: str, expected: bool) -> None:
    assert is_beside(path) is expected


def test_what_is_named_is_there() -> None:
    assert [name for name in (*BESIDE, OUTSIDE) if not (ROOT / "tests" / name).is_dir()] == []


@pytest.mark.parametrize("part", ["beside", "rest"])
def test_no_test_is_lost(part: str) -> None:
    files = ("tests/addons/test_routing.py", "tests/test_deploy.py")
    command = (sys.executable, "-m", "pytest", "-q", "--collect-only", f"--part={part}", *files)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert found == {files[0] if part == "beside" else files[1]}, done.stdout


def test_mounts_below_sysfs_topmost_only() -> None:
    lines = (
        "20 1 0:19 / /sys rw - sysfs sysfs rw",
        "21 20 0:20 / /sys/fs/cgroup rw - tmpfs none rw",
        "22 21 0:21 / /sys/fs/cgroup/memory rw - cgroup none rw",
        "23 20 0:22 / /sys/kernel/tracing rw - tracefs none rw",
        "24 1 0:23 / /system rw - tmpfs none rw",
    )
    assert below_sysfs("\n".join(lines)) == ["fs/cgroup", "kernel/tracing"]


LOOK = """
import json, os
from pathlib import Path
from tests import beside
groups = sorted(os.listdir("/sys/fs/cgroup"))
beside.leave()
print(json.dumps([os.listdir("/sys/class/net"), sorted(os.listdir("/sys/fs/cgroup")) == groups,
    int(Path("/sys/class/net/lo/flags").read_text(), 16) & 1]))
"""


@pytest.mark.system
def test_the_part_beside_sees_its_own_links_and_the_same_groups() -> None:
    done = subprocess.run((sys.executable, "-c", LOOK), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    links, groups_are_there, is_up = json.loads(done.stdout)
    assert "lo" in links and not [name for name in links if name.startswith("fc")]
    assert groups_are_there and is_up
