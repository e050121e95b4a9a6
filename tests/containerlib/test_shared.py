"""/sys and /dev of all containers; each time in a process of its own, which changes its namespaces."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from containerlib.plan import DEVICES

ROOT = Path(__file__).parents[2]
PROGRAM = f"""
import json, os, sys
sys.path.insert(0, {str(ROOT)!r})
from containerlib import shared
from containerlib.kernel import move_mount
def answer(call, *words):
    try:
        return call(*words)
    except OSError as error:
        return error.strerror
"""


def run(program: str) -> Any:
    done = subprocess.run([sys.executable, "-SIc", PROGRAM + program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.system
def test_each_takes_copies_and_is_where_it_was() -> None:
    is_where_it_was, sees_the_host, copies = run(f"""
where = lambda: [os.readlink("/proc/self/ns/" + name) for name in ("mnt", "net", "pid")]
before = where()
kept = shared.keep()
mounts = [*kept.take(), *kept.take()]
print(json.dumps([where() == before, os.path.exists({str(ROOT)!r}), len(set(mounts))]))
""")
    assert is_where_it_was and sees_the_host and copies == 4


@pytest.mark.system
def test_what_is_taken() -> None:
    seen = run("""
mounts = shared.keep().take()
os.unshare(os.CLONE_NEWNS)
shared.DetachMountTree().execute()
move_mount(mounts.dev, "/mnt")
seen = {"devices": sorted(os.listdir("/mnt")), "null": answer(os.write, os.open("/mnt/null", os.O_WRONLY), b"x"),
    "zero": os.read(os.open("/mnt/zero", os.O_RDONLY), 1).decode(), "new": answer(os.mknod, "/mnt/x"),
    "mode": answer(os.chmod, "/mnt/null", 0), "shm": os.stat("/mnt/shm").st_mode & 0o7777}
move_mount(mounts.sys, "/mnt")
seen["links"] = os.listdir("/mnt/class/net")
flags = [line.split()[5] for line in open("/proc/self/mountinfo") if line.split()[4] == "/mnt"]
seen["flags"] = [sorted(set(each.split(",")) - {"relatime"}) for each in flags]
print(json.dumps(seen))
""")
    assert seen["devices"] == sorted(["fd", "shm", "stderr", "stdin", "stdout", *(name for name, _, _ in DEVICES)])
    assert (seen["null"], seen["zero"], seen["shm"]) == (1, "\0", 0o1777)
    assert seen["new"] == seen["mode"] == "Read-only file system"
    assert set(seen["links"]) <= {"lo"}  # which goes a moment after its namespace
    assert sorted(seen["flags"]) == [["nodev", "noexec", "nosuid", "ro"], ["noexec", "nosuid", "ro"]]


def test_who_may_not_has_none() -> None:
    found = run("""
if os.getuid() == 0:
    os.setuid(65534)
print(json.dumps(shared.keep()))
""")
    assert found is None
