"""Which line an error is told of."""

import pytest

from containerlib.checks import SpecError
from containerlib.dsl.errors import DefinitionError, told, where


def test_the_nearest_line_of_a_definition() -> None:
    file, _, line = where().rpartition(":")
    assert file == __file__
    assert int(line) > 0


def test_a_broken_rule_gets_its_line_and_its_field() -> None:
    with pytest.raises(DefinitionError, match=rf"{__file__}:\d+: a: 1 is odd$"), told():
        raise SpecError("a", 1, "is odd")
    with (
        pytest.raises(DefinitionError, match=r"^x\.py:3: memory: 'lots' is not an amount$") as caught,
        told("memory", "x.py:3"),
    ):
        raise ValueError("'lots' is not an amount")
    assert (caught.value.where, caught.value.message) == ("x.py:3", "memory: 'lots' is not an amount")


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), told():
        raise ZeroDivisionError
