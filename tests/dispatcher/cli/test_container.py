"""fastcontainer container ...: containerlib's own command line under our name."""

from pathlib import Path

import pytest

from dispatcher.cli import main
from dispatcher.cli.root import run


def test_its_verbs_are_containerlibs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["container", "--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "fastcontainer container [OPTIONS]" in printed
    assert "inspect" in printed


def test_its_exit_codes_and_flags_pass(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main(["container", "inspect", f"{tmp_path}/none.py", "--plan"])
    assert end.value.code == 2
    assert "none.py: No such file" in capsys.readouterr().err


def test_the_list_of_commands_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["--help"])
    assert "container" in capsys.readouterr().out
