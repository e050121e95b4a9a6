import json

import pytest

from dispatcher.cli.output import print_json, report
from dispatcher.domain import ContainerRow, Status
from dispatcher.problems import Code, Problem


def test_json_of_types(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([ContainerRow("here", Status.RUNNING)])
    assert json.loads(capsys.readouterr().out) == [{"compute": "here", "status": "running"}]


def test_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    problem = Problem(Code.EXISTS, "it\x1b exists", hint="look")
    report(problem, as_json=False)
    report(problem, as_json=True)
    printed = capsys.readouterr()
    first, second, third = printed.err.splitlines()
    assert (first, second) == ("fastcontainer: it\\x1b exists", "  look")
    assert json.loads(third)["error"] == {"code": "exists", "message": "it\x1b exists", "hint": "look"}
