"""What the process that restores is told, and what it makes before CRIU is asked. The rest is in test_restoring.py."""

import os
import subprocess
import threading
from pathlib import Path

from containerlib.checkpoint.restorer import SCRIPT, Work, _make

WORK = Work(
    ("ld.so", "criu"), ("--tcp-close",), "/image", (("usr", "/usr"),), "web", {"hosts": "127.0.0.1 localhost\n"}
)


def test_what_it_is_told_survives_the_way() -> None:
    assert Work.from_bytes(WORK.to_bytes()) == WORK


def script(directory: Path, action: str, answer: bytes) -> tuple[int, bytes]:
    """Its exit status, and what it said."""
    path = directory / "script"
    path.write_text(SCRIPT)
    fds = []
    for name in ("told", "go"):
        os.mkfifo(f"{path}.{name}")
        fds.append(os.open(f"{path}.{name}", os.O_RDWR))
    said: list[bytes] = []

    def reply() -> None:
        said.append(os.read(fds[0], 100))
        os.write(fds[1], answer)

    talk = threading.Thread(target=reply)
    talk.start()
    done = subprocess.run(
        ["sh", str(path)],
        env={"PATH": "/usr/bin:/bin", "CRTOOLS_SCRIPT_ACTION": action, "CRTOOLS_INIT_PID": "77"},
        timeout=10,
    )
    if talk.is_alive():
        os.write(fds[0], b"\n")
    talk.join()
    for fd in fds:
        os.close(fd)
    return done.returncode, said[0]


def test_criu_waits_until_it_is_wired_and_named(tmp_path: Path) -> None:
    assert script(tmp_path, "setup-namespaces", b"go\n") == (0, b"77\n")


def test_without_a_word_criu_gives_up(tmp_path: Path) -> None:
    assert script(tmp_path, "post-restore", b"no\n")[0] != 0


def test_at_other_moments_it_says_nothing(tmp_path: Path) -> None:
    assert script(tmp_path, "pre-restore", b"") == (0, b"\n")


def test_what_a_mount_can_be_attached_to(tmp_path: Path) -> None:
    directory, file = os.open(tmp_path, os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)
    for _ in range(2):  # what is there stays
        _make(str(tmp_path / "a/b"), directory)
        _make(str(tmp_path / "c/d"), file)
    assert (tmp_path / "a/b").is_dir()
    assert (tmp_path / "c/d").is_file()
    for fd in (directory, file):
        os.close(fd)
