"""container new | inspect"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from containerlib.cli.root import run
from containerlib.dsl import load
from containerlib.spec import Image, Usr

Cli = Callable[..., Any]
TWO = """
from containerlib import Phase, define

@define("base", template=True)
def base(c):
    c.command("php")

@define("blog", inherits="base")
def blog(c):
    c.cgroup.memory = "256M"
    @c.hook(Phase.SETUP)
    def prepare(container): ...

@define("shop", inherits="blog")
def shop(c):
    c.env["EVIL"] = "\\x1b[2J"
"""


@pytest.fixture
def two(tmp_path: Path) -> Path:
    path = tmp_path / "two.py"
    path.write_text(TWO)
    return path


# ---- new


def test_what_new_writes_is_a_definition(cli: Cli, tmp_path: Path) -> None:
    assert cli("new", "blog.py").out == "wrote blog.py: container blog\n"
    spec = load([tmp_path / "blog.py"]).spec("blog")
    assert (spec.root, spec.readiness.port) == (Usr(), 8080)
    assert cli("inspect", "blog.py").code == 0


def test_new_with_a_name_and_an_image(cli: Cli, tmp_path: Path) -> None:
    assert cli("new", "class.py").code == 0
    assert cli("new", "9.py", "--name", "9-lives", "--image", "php@3").code == 0
    assert load([tmp_path / "9.py"]).spec("9-lives").root == Image("php@3")


def test_every_word_that_is_commented_out_is_one(cli: Cli, tmp_path: Path) -> None:
    cli("new", "blog.py")
    path = tmp_path / "blog.py"
    path.write_text(path.read_text().replace("\n    # ", "\n    "))
    spec = load([path]).spec("blog")
    assert (spec.lifespan.seconds, len(spec.mounts), len(spec.timers)) == (3600, 2, 1)


def test_new_replaces_nothing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "blog.py").write_text("mine")
    said = cli("new", "blog.py")
    assert (said.code, said.err) == (4, "container: blog.py exists\n  name another file, or remove it first\n")
    (tmp_path / "link.py").symlink_to("elsewhere.py")
    assert cli("new", "link.py").code == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blog.py", "link.py"]


@pytest.mark.parametrize("words", [("--name", "A"), ("--image", "../x"), ("--image", '")\n    import os\n    ("')])
def test_new_leaves_nothing_wrong_behind(cli: Cli, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert cli("new", "blog.py", *words).code == 2
    assert list(tmp_path.iterdir()) == []


def test_new_where_nobody_can_write(cli: Cli) -> None:
    said = cli("new", "no/such/blog.py")
    assert (said.code, said.err) == (1, "container: no/such/blog.py cannot be written: No such file or directory\n")


# ---- inspect


def test_inspect_tells_what_is_not_as_always(cli: Cli, two: Path) -> None:
    lines = [line.split(maxsplit=1) for line in cli("inspect", "two.py", "-n", "shop").out.splitlines()]
    assert ["command", "php"] in lines
    assert ["cgroup.memory_bytes", "268435456"] in lines
    assert ["env.EVIL", "\\x1b[2J"] in lines
    assert not [line for line in lines if line[0].startswith("stop")]


def test_inspect_as_json_of_all_that_can_run(cli: Cli, two: Path) -> None:
    found = cli("inspect", "two.py", "--json").json
    assert [each["name"] for each in found] == ["blog", "shop"]
    assert found[0]["stop"] == {"signal": "TERM", "grace_s": 10.0}


def test_the_plan_of_a_start(cli: Cli, two: Path) -> None:
    said = cli("inspect", "two.py", "-n", "blog", "--plan")
    assert said.out.splitlines()[0].split() == ["BLOG", "WHERE", "DOES"]
    assert "Hook(setup, prepare, limit=10s, on_failure=abort)" in said.out.splitlines()[1]
    steps = cli("inspect", "two.py", "--plan", "--json").json
    assert {"where": "container", "does": "SetHostname(name='shop')"} in steps["shop"]
    assert {"where": "host", "does": "WriteCgroup(file='pids.max', value='256')"} in steps["shop"]


@pytest.mark.system
def test_the_plan_needs_no_root(cli: Cli) -> None:
    """As somebody who can read the file and nothing else."""
    with tempfile.TemporaryDirectory() as directory:  # pytest's own is closed to others
        Path(directory).chmod(0o755)
        path = Path(directory, "two.py")
        path.write_text(TWO)
        cli("inspect", str(path), "--plan")  # whoever it is below may not read our modules
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            _as_nobody(tell, ["inspect", str(path), "--plan"])
        os.close(tell)
        with os.fdopen(told) as reading:
            text = reading.read()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert "EnterUserNamespace" in text


def _as_nobody(tell: int, words: list[str]) -> NoReturn:
    code = 1
    try:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        sys.stdout = os.fdopen(tell, "w")
        code = run(words, "")
        sys.stdout.flush()
    finally:
        os._exit(code)


def test_a_file_without_definitions(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    said = cli("inspect", "empty.py")
    assert (said.code, said.err.splitlines()[0]) == (2, "container: nothing is defined there")


def test_a_name_that_is_not_there(cli: Cli, two: Path) -> None:
    said = cli("inspect", "two.py", "-n", "base")
    assert (said.code, "'base' is a template" in said.err) == (2, True)
