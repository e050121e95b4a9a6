"""A user namespace made beforehand, then mapped and entered; in a process of its own, for that is for good."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerlib import idmap
from containerlib.userns import make_user_namespace

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PROGRAM = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from containerlib.operations import BecomeUser, EmptyBoundingSet
from containerlib.userns import EnterUserNamespace, make_user_namespace
"""


def run(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-SIc", PROGRAM + program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fc-") as name:
        Path(name).chmod(0o755)  # pytest's own are root's alone
        yield Path(name)


def test_who_enters_owns_what_the_app_owns_and_nothing_of_the_hosts(directory: Path) -> None:
    for name, owner in (("mine", 300_000), ("root", 0)):
        (directory / name).touch(0o600)
        os.chown(directory / name, owner, owner)
    lines = run(f"""
EnterUserNamespace(make_user_namespace(), 300_000).execute()
print(open("/proc/self/uid_map").read().split() == {idmap.map_text(300_000).split()!r})
print(open("/proc/self/gid_map").read().split() == {idmap.map_text(300_000).split()!r})
EmptyBoundingSet().execute()
BecomeUser(1000).execute()
print(os.getresuid(), os.getresgid(), os.getgroups())
for name in ("mine", "root"):
    print(os.stat("{directory}/" + name).st_uid, os.access("{directory}/" + name, os.R_OK))
print({{line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")}})
""")
    assert lines == [
        "True", "True", "(1000, 1000, 1000) (1000, 1000, 1000) []", "1000 True", "65534 False", "{'0000000000000000'}",
    ]  # fmt: skip


def test_one_that_is_made_and_not_entered_leaves_nothing() -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    namespace = make_user_namespace()
    assert Path(f"/proc/self/fd/{namespace.fd}").readlink() != Path("/proc/self/ns/user").readlink()
    namespace.close()
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


def test_where_the_kernel_allows_none_its_reason_is_told() -> None:
    lines = run("""
os.unshare(os.CLONE_NEWUSER)
open("/proc/sys/user/max_user_namespaces", "w").write("0")  # of those below this one
try:
    make_user_namespace()
except OSError as error:
    print(error)
""")
    assert lines == ["[Errno 28] No space left on device: 'unshare CLONE_NEWUSER'"]
