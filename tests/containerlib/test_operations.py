"""Operations that may be executed here; the others are, by every container of tests/system."""

import contextlib
import os
import resource
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from containerlib.operations import (
    BecomeUser,
    ChangeDirectory,
    EmptyBoundingSet,
    ForbidCoreDumps,
    ForbidNewPrivileges,
    GiveAway,
    LimitResource,
    MakeDevice,
    MakeDirectory,
    MakeSymlink,
    Operation,
    PauseAtGate,
    SetSysctl,
    WriteFile,
)

ROOT = Path(__file__).parents[2]


def test_a_directory_is_made_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        MakeDirectory(str(tmp_path / "a/b"), 0o1777, os.getuid()).execute()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o1777


def test_a_link_and_a_file(tmp_path: Path) -> None:
    MakeSymlink(str(tmp_path / "link"), "usr/bin").execute()
    assert str((tmp_path / "link").readlink()) == "usr/bin"
    old = os.umask(0o022)  # the launcher's
    try:
        WriteFile(str(tmp_path / "file"), "longer text").execute()
        WriteFile(str(tmp_path / "file"), "text").execute()
    finally:
        os.umask(old)
    assert (tmp_path / "file").read_text() == "text"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.system
def test_a_device_and_what_is_given_away(tmp_path: Path) -> None:
    MakeDevice(str(tmp_path / "null"), 1, 3).execute()
    info = (tmp_path / "null").stat()
    assert stat.S_ISCHR(info.st_mode)
    assert (stat.S_IMODE(info.st_mode), info.st_rdev) == (0o666, os.makedev(1, 3))
    with open(tmp_path / "file", "w") as file:
        GiveAway((file.fileno(),), 4711).execute()
    assert (tmp_path / "file").stat().st_uid == 4711


def in_a_child(*operations: Operation) -> dict[str, str]:
    """/proc/self/status of a process that executed them."""
    words = ", ".join(map(repr, operations))
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom containerlib.operations import *\n"
        f"for operation in ({words},): operation.execute()\nprint(open('/proc/self/status').read())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)


@pytest.mark.system
def test_a_user_without_any_capability_for_good() -> None:
    status = in_a_child(ForbidCoreDumps(), EmptyBoundingSet(), BecomeUser(200_001), ForbidNewPrivileges())
    assert status["Uid"].split() == status["Gid"].split() == ["200001"] * 4
    assert status["Groups"].strip() == ""
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    ("given", "wanted", "got"),
    [((50, 60), (10, 20), (10, 20)), ((50, 60), (10, 100), (10, 60)), ((50, 60), (80, 100), (60, 60))],
)
def test_a_limit_is_never_above_what_was_given(
    given: tuple[int, int], wanted: tuple[int, int], got: tuple[int, int]
) -> None:
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, given)
            LimitResource(resource.RLIMIT_NOFILE, *wanted).execute()
            os._exit(resource.getrlimit(resource.RLIMIT_NOFILE) != got)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_what_cannot_be_done_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        ChangeDirectory(str(tmp_path / "absent")).execute()
    with pytest.raises(OSError, match="absent"):
        SetSysctl(str(tmp_path / "absent/sysctl"), "1").execute()


def test_operations_are_values() -> None:
    assert MakeSymlink("a", "b") == MakeSymlink("a", "b")
    assert MakeSymlink("a", "b").describe() == "MakeSymlink(path='a', target='b')"


@pytest.mark.parametrize(("answer", "passes"), [(b"go", True), (b"", False), (b"stop", False)])
def test_nobody_passes_a_gate_that_is_not_opened(answer: bytes, passes: bool) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        if answer:
            ours.send(answer)
        else:
            ours.shutdown(socket.SHUT_WR)
        with contextlib.nullcontext() if passes else pytest.raises(ConnectionAbortedError):
            PauseAtGate(theirs.fileno()).execute()
        assert ours.recv(16) == b"gate"
