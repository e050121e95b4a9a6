"""What ends a command."""

import json

import pytest

from containerlib.cli.failure import EXISTS, FAILED, Failure, report


def test_a_failure_for_people_and_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure("it\x1b exists", hint="look", code=EXISTS)
    report(failure, as_json=False)
    report(failure, as_json=True)
    first, second, third = capsys.readouterr().err.splitlines()
    assert (first, second) == ("container: it\\x1b exists", "  look")
    assert json.loads(third)["error"] == {"message": "it\x1b exists", "hint": "look", "exit_code": 4}


def test_one_that_says_nothing_of_its_kind_is_a_failure() -> None:
    assert Failure("x").code == FAILED
