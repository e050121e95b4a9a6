import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from dispatcher.cli import main


def modules(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("heavy", ["grpc", "rich", "etcd3", "psutil", "pyroute2", "mitmproxy", "asyncio"])
def test_what_most_commands_do_not_need_is_not_imported(heavy: str) -> None:
    assert heavy not in modules("import dispatcher.cli") | (
        modules("import dispatcher.cli.root") - {"asyncio.base_events"}
    )


def test_the_commands(cli: Callable[..., Any]) -> None:
    said = cli("--help")
    assert said.code == 0
    for name in (
        "app",
        "ps",
        "logs",
        "stop",
        "start",
        "exec",
        "events",
        "doctor",
        "agent",
        "launcher",
        "userproxy",
        "container",
    ):
        assert name in said.out


def test_the_exit_code_is_that_of_the_problem(cli: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["app", "show", "nobody"])
    assert ended.value.code == 3
    assert "no app 'nobody'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["app", "list"])
    assert ended.value.code == 0


def test_wrong_calls(cli: Callable[..., Any]) -> None:
    assert cli("nonsense").code == 2
    assert cli("ps", "--nonsense").code == 2
