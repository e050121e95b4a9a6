import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    directory = tmp_path / "log/lives/blog"

    def write(name: str, second: int, text: str, stream: str = "out") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / f"{name}.log").open("a") as file:
            file.write(f"2026-11-23T05:49:{second:02}.000000Z {stream} {text}\n")

    return write


def test_logs(cli: Cli, write: Callable[..., None]) -> None:
    write("1.1", 1, "first")
    write("1.2", 2, "oops \x1b[2J", "err")
    write("1.2", 3, "last")
    assert cli("logs", "blog").out.splitlines() == [
        "2026-11-23T05:49:01.000000Z blog/1.1 out first",
        "2026-11-23T05:49:02.000000Z blog/1.2 err oops \\x1b[2J",
        "2026-11-23T05:49:03.000000Z blog/1.2 out last",
    ]
    assert len(cli("logs", "blog", "--stderr").out.splitlines()) == 1
    assert len(cli("logs", "blog", "--life", "blog/1.2").out.splitlines()) == 2
    assert cli("logs", "blog", "--tail", "1").out.endswith("out last\n")
    assert json.loads(cli("logs", "blog", "-n", "1", "--json").out)["life"] == "blog/1.2"


def test_follow_goes_on_into_the_next_life(cli: Cli, write: Callable[..., None]) -> None:
    write("1.1", 1, "first")
    command = [sys.executable, "-c", "from dispatcher.cli import main; main()", "logs", "blog", "-f", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["text"] == "first"
        write("1.2", 2, "second")
        line = json.loads(process.stdout.readline())
        assert (line["life"], line["text"]) == ("blog/1.2", "second")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("nobody",), 3),
        (("blog", "--life", "blog/9.9"), 3),
        (("blog", "--life", "shop/1.1"), 2),
        (("blog", "--life", "../x"), 2),
        (("../../etc",), 2),
    ],
)
def test_refusals(cli: Cli, write: Callable[..., None], words: tuple[str, ...], code: int) -> None:
    write("1.1", 1, "first")
    said = cli("logs", *words)
    assert (said.code, said.out) == (code, "")
    assert said.err
