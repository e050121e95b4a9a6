"""docs/haconiwa.md: every test that it names exists, and every row says something."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from containerlib.hooks import Phase

HERE = Path(__file__).parent
TEXT = (HERE.parents[1] / "docs/haconiwa.md").read_text()
ROWS = [
    line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| Haconiwa |", "| there |"))
]
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)))
EXCUSES = ("not yet", "replaced", "not possible", "not offered", "always", "the same")


@cache
def named_in(path: str) -> set[str]:
    tree = ast.parse((HERE / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_it_names_exists(path: str, name: str) -> None:
    assert name in named_in(path)


def test_every_row_has_a_test_or_says_why_not() -> None:
    silent = [row for row in ROWS if "::" not in row and not any(excuse in row for excuse in EXCUSES)]
    assert silent == []
    assert len(ROWS) > 80


def test_every_phase_is_in_it() -> None:
    assert [phase.name for phase in Phase if phase.name not in TEXT and phase is not Phase.READY] == []
