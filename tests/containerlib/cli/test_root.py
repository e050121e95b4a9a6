"""The verbs, and errors as exit codes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
BAD = 'from containerlib import define\n@define("x")\ndef x(c):\n    c.cgroup.memory = "lots"\n'


def test_the_verbs(cli: Cli) -> None:
    said = cli("--help")
    assert said.code == 0
    for verb in ("new", "inspect"):
        assert verb in said.out


def test_a_wrong_call_is_2(cli: Cli) -> None:
    assert cli("nonsense").code == 2
    assert cli("inspect").code == 2


def test_a_wrong_definition_is_2_and_told_with_its_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(BAD)
    said = cli("inspect", "bad.py")
    assert said.code == 2
    assert "bad.py:4: cgroup.memory: 'lots' is not an amount of memory" in said.err
    assert "Traceback" not in said.err


def test_containerlib_is_a_program_by_itself(tmp_path: Path) -> None:
    """Without dispatcher: it stands alone."""
    (tmp_path / "blog.py").write_text('from containerlib import define\n@define("x")\ndef x(c):\n    c.command("y")\n')
    code = (
        "import sys\n"
        "from containerlib.cli import main\n"
        "try:\n    main(['inspect', 'blog.py', '--json'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('dispatcher', 'addons')]"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "containerlib", "inspect", "none.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (2, f"container: {tmp_path}/none.py: No such file or directory\n")


@pytest.mark.parametrize("heavy", ["rich", "pyroute2", "asyncio", "seccomp"])
def test_what_most_commands_do_not_need_is_not_imported(heavy: str) -> None:
    code = "import sys, containerlib.cli.root; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert heavy not in set(loaded)
