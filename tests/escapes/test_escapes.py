"""Ways out of a container, each tried for real: without what holds it, then with each of those protections alone, then with all."""

from pathlib import Path

import pytest

from tests.escapes.cases import CASES, Case, rows
from tests.escapes.conftest import Outcome
from tests.escapes.launcher import WITHOUT

pytestmark = pytest.mark.system

ROWS = list(rows())


def lacks(case: Case) -> bool:
    return bool(case.needs) and not Path(case.needs).exists()


@pytest.mark.parametrize(("case", "removed", "succeeds"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
async def test_escape(outcome: Outcome, case: Case, removed: frozenset[str], succeeds: bool) -> None:
    if lacks(case):
        pytest.skip(f"needs another kernel: one with {case.needs}")
    how = await outcome(case.attack, removed)
    assert how.startswith("escaped: " if succeeds else "held: "), how


def test_every_protection_that_can_be_left_out_holds_something() -> None:
    held = {layer for case in CASES for layer in case.layers}
    assert held == set(WITHOUT) - {"sizes", "file limit"}  # test_bombs.py
