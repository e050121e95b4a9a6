"""The parts of a blank that need no namespace; what it does inside is in test_launcher.py and tests/system."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from containerlib import blank
from containerlib.operations import ChangeDirectory

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bin(tmp_path: Path) -> Path:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    for path, mode in (("first/data", 0o644), ("second/data", 0o755), ("second/tool", 0o755), ("first/tool", 0o755)):
        (tmp_path / path).touch()
        (tmp_path / path).chmod(mode)
    (tmp_path / "first/dir").mkdir()
    return tmp_path


def test_a_program_is_found_in_the_order_of_the_path(bin: Path) -> None:
    path = f"{bin}/first:{bin}/second"
    assert blank._find("tool", path) == f"{bin}/first/tool"
    assert blank._find("data", path) == f"{bin}/second/data"  # the first is not executable
    assert blank._find(f"{bin}/second/tool", "") == f"{bin}/second/tool"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("absent", "'absent' is not in the container's PATH"),
        ("dir", "'dir' is not in"),
        ("./absent", "is not an executable file"),
    ],
)
def test_a_program_that_is_not_there_is_named_with_the_rule(bin: Path, program: str, words: str) -> None:
    with pytest.raises(FileNotFoundError, match=words):
        blank._find(program, f"{bin}/first:{bin}/second")


def test_an_operation_that_fails_says_which(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"ChangeDirectory\(path=.*absent.*No such file"):
        blank.execute((ChangeDirectory(str(tmp_path / "absent")),))


def test_a_program_inherits_no_signal_that_is_ignored() -> None:
    program = (
        f"import os, signal, sys; sys.path.insert(0, {str(ROOT)!r}); from containerlib.blank import reset_signals\n"
        "for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)\n"
        "reset_signals()\n"
        "os.execv('/bin/cat', ['cat', '/proc/self/status'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    ignored = next(int(line.split()[1], 16) for line in done.stdout.splitlines() if line.startswith("SigIgn"))
    wanted = (
        signal.SIGPIPE,
        signal.SIGXFSZ,
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGCHLD,
        signal.SIGQUIT,
        signal.SIGHUP,
    )
    assert [number for number in wanted if ignored >> (number - 1) & 1] == []
    assert os.getpid()


def test_nothing_is_imported_once_a_tenants_files_may_lie_where_modules_are_looked_for() -> None:
    program = "from containerlib import blank; blank.import_nothing_more(); import antigravity"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "No module named 'antigravity'" in done.stderr
