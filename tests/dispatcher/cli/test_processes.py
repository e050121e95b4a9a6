import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispatcher.cli import main
from dispatcher.cli.processes import replace_by
from dispatcher.compute import doctor
from dispatcher.compute.findings import degraded, missing, ok

Cli = Callable[..., Any]


class Replaced(Exception):
    pass


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    calls: list[list[str]] = []

    def execve(program: str, words: list[str], environment: dict[str, str]) -> None:
        assert program == words[0]
        assert environment == ({} if "-SI" in words else os.environ)
        calls.append(words)
        raise Replaced

    monkeypatch.setattr(os, "execve", execve)
    return calls


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("userproxy", "--listen-port", "1"), ["-m", "addons.userproxy", "--listen-port", "1"]),
        (("webdispatcher",), ["-m", "addons.webdispatcher"]),
    ],
)
def test_proxies_replace_this_process(executed: list[list[str]], words: tuple[str, ...], command: list[str]) -> None:
    with pytest.raises(Replaced):
        main(words)
    with pytest.raises(Replaced):
        replace_by(words[0], words[1:])
    assert executed == [[sys.executable, *command]] * 2


def test_the_launcher_runs_alone(executed: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONTAINER_RUN_DIR", "/run/x")
    with pytest.raises(Replaced):
        main(["launcher"])
    python, flags, program, *rest = executed[0]
    assert (python, flags, rest) == (sys.executable, "-SI", ["/run/x/launcher.sock", "/run/x/stage"])
    assert Path(program).is_file() and program.endswith("containerlib/launcher.py")


@pytest.mark.system
def test_nothing_of_its_environment_goes_into_containers(tmp_path: Path) -> None:
    """What is told at exec stays readable in /proc/1/environ of every copy, whatever is removed later."""
    given = {**os.environ, "FASTCONTAINER_RUN_DIR": str(tmp_path), "SECRET": "of the host"}
    command = [sys.executable, "-c", "from dispatcher.cli import main; main(['launcher'])"]
    with subprocess.Popen(command, env=given) as process:
        try:
            deadline = time.monotonic() + 20
            while not (tmp_path / "launcher.sock").exists():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            assert Path(f"/proc/{process.pid}/environ").read_bytes() == b""
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("findings", "code"),
    [([ok("a", "b"), degraded("c", "d", "e")], 0), ([ok("a", "b"), missing("c", "d", "do e")], 1)],
)
def test_doctor(cli: Cli, monkeypatch: pytest.MonkeyPatch, findings: list[doctor.Finding], code: int) -> None:
    monkeypatch.setattr(doctor, "examine", lambda settings: findings)
    said = cli("doctor")
    assert said.code == code and findings[-1].remedy in said.out
    said = cli("doctor", "--json")
    assert said.code == code
    assert [each["state"] for each in said.json] == [each.state for each in findings]


def test_the_agent_is_root(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = cli("agent", "--clean")
    assert said.code == 5 and "sudo" in said.err
