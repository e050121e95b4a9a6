"""The repository itself: linters, layers, packaging, and what the README tells people to type."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PACKAGES = ("addons", "dispatcher", "containerlib")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Sources without a test file of their own name, and why.
TESTED_ELSEWHERE: dict[str, str] = {
    "containerlib/standalone/__main__.py": "tests/containerlib/standalone/test_run.py",
    "containerlib/__main__.py": "tests/containerlib/cli/test_root.py",
    "dispatcher/units.py": "tests/containerlib/test_units.py",
    "dispatcher/quickstart/main.py": "tests/system/test_quickstart.py",
    "dispatcher/compute/life.py": "tests/dispatcher/compute/test_lives.py",
    "dispatcher/compute/imaged.py": "tests/system/test_restored.py",
    # What only shows through real sockets is tested by what it does.
    "addons/connections.py": "tests/addons/test_refusing.py",
    "addons/exchange.py": "tests/addons/test_waking.py",
    "addons/proxybase.py": "tests/addons/test_waking.py",
    "addons/streams.py": "tests/addons/test_passing.py",
    "containerlib/checkpoint/halt.py": "tests/containerlib/checkpoint/test_halting.py",
    "containerlib/checkpoint/ptrace.py": "tests/containerlib/checkpoint/test_halting.py",
    "containerlib/images/bench.py": "tests/containerlib/images/test_build.py",
    "containerlib/images/fields.py": "tests/containerlib/images/test_steps.py",
    "containerlib/images/progress.py": "tests/containerlib/images/test_build.py",
    "addons/clients.py": "tests/addons/test_refusing.py",
    "addons/handler.py": "tests/addons/test_passing.py",
}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True)


def sources() -> list[Path]:
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return sorted(path.relative_to(ROOT) for path in found if path.read_text().strip() and path.name != "__init__.py")


@pytest.mark.parametrize("command", [("ruff", "check"), ("ruff", "format", "--check"), ("lint-imports",)], ids=" ".join)
def test_linters_are_content(command: tuple[str, ...]) -> None:
    done = run(BIN / command[0], *command[1:])
    assert done.returncode == 0, (done.stdout + done.stderr).splitlines()[-3:]


def test_every_source_file_has_its_test() -> None:
    expected = {
        str(source): TESTED_ELSEWHERE.get(str(source)) or f"tests/{source.parent}/test_{source.name}"
        for source in sources()
    }
    assert {source: test for source, test in expected.items() if not (ROOT / test).is_file()} == {}
    assert set(TESTED_ELSEWHERE) <= set(expected)


def test_no_file_of_a_package_is_longer_than_700_lines() -> None:
    assert [str(path) for path in sources() if len((ROOT / path).read_text().splitlines()) > 700] == []


def _pins() -> dict[str, str]:
    """Those for the interpreter that runs this."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    assert [
        str(each) for each in pinned if each.url or not re.fullmatch(r"==[0-9][A-Za-z0-9.]*", str(each.specifier))
    ] == []
    return {
        canonicalize_name(each.name): str(each.specifier).removeprefix("==")
        for each in pinned
        if each.marker is None or each.marker.evaluate()
    }


def test_every_direct_dependency_is_pinned() -> None:
    groups = PROJECT["dependency-groups"]
    wanted = [*PROJECT["project"]["dependencies"], *groups["dev"], *groups["quickstart"]]
    assert {canonicalize_name(Requirement(line).name) for line in wanted} - set(_pins()) == set()


def test_what_is_installed_is_what_is_pinned() -> None:
    done = run(BIN / "python", "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check")
    installed = {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in done.stdout.split())
    }
    pins = _pins()
    assert {name: version for name, version in installed.items() if pins.get(name, version) != version} == {}


def test_the_licence_is_apache_2() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:300]


def test_the_wheel_holds_the_three_packages(tmp_path: Path) -> None:
    done = run(BIN / "python", "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("fastcontainer-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {str(path) for path in sources()} <= names
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(PACKAGES)


def readme_commands() -> list[list[str]]:
    """The lines of the README's code blocks that call something of ours, as words."""
    blocks = re.findall(r"```\w*\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line.partition("#")[0].split() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words for words in lines if words and re.match(r"\./quickstart$|fastcontainer(-\w+)?$", words[0])]


def test_quickstart_knows_what_the_readme_asks_of_it() -> None:
    asked = {tuple(words[1:2]) for words in readme_commands() if words[0] == "./quickstart"}
    assert {(), ("down",)} <= asked <= {(), ("--detach",), ("down",), ("test",)}


def test_what_the_readme_calls_exists() -> None:
    assert {words[0] for words in readme_commands()} - {"./quickstart"} <= set(PROJECT["project"]["scripts"])


def test_the_verbs_of_the_readme_exist() -> None:
    verbs = {
        tuple(words[1 : 3 if words[1] == "app" else 2]) for words in readme_commands() if words[0] == "fastcontainer"
    }
    assert ("ps",) in verbs
    for verb in sorted(verbs):
        done = run(BIN / "fastcontainer", *verb, "--help")
        assert done.returncode == 0, f"{verb}: {done.stdout}{done.stderr}"


def test_a_path_of_the_readme_exists() -> None:
    named = re.findall(
        r"(?:addons|dispatcher|containerlib|samples|deploy|docs|bench)/[\w./-]*\w", (ROOT / "README.md").read_text()
    )
    assert [path for path in named if not (ROOT / path).exists()] == []
