"""Rules that fields share."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from containerlib import checks
from containerlib.checks import SpecError

Check = Callable[[str, Any], Any]


def low(field: str, value: Any) -> int:
    return checks.whole(field, value, 1, 9)


@pytest.mark.parametrize(
    ("check", "value", "rule"),
    [
        (checks.text, 7, "is not a text"),
        (checks.text, "a\0b", "contains a NUL character"),
        (checks.texts, "php -S", "is not a sequence of texts"),
        (checks.texts, ("a", 7), "is not a text"),
        (checks.name, "Blog", "is not 1 to 63 of"),
        (checks.name, "-a", "is not 1 to 63 of"),
        (checks.name, "a" * 64, "is not 1 to 63 of"),
        (checks.name, "../x", "is not 1 to 63 of"),
        (checks.variable, "", "is not a name of an environment variable"),
        (checks.variable, "A=B", "is not a name of an environment variable"),
        (checks.absolute_path, "srv", "is not an absolute path"),
        (checks.absolute_path, "/srv/../etc", "is not an absolute path"),
        (low, 0, "is not from 1 to 9"),
        (low, 10, "is not from 1 to 9"),
        (low, True, "is not a whole number"),
        (low, "3", "is not a whole number"),
        (checks.seconds, 0, "is not more than 0 seconds"),
        (checks.seconds, float("nan"), "is not more than 0 seconds"),
        (checks.seconds, float("inf"), "is not more than 0 seconds"),
        (checks.seconds, True, "is not a number of seconds"),
        (checks.signal_number, "HUNGUP", "is not a signal such as TERM"),
        (checks.signal_number, 400, "is not a signal such as TERM"),
        (checks.signal_number, None, "is not a signal such as TERM"),
    ],
)
def test_breaks_the_rule(check: Check, value: Any, rule: str) -> None:
    with pytest.raises(SpecError, match=rule) as caught:
        check("field", value)
    assert str(caught.value).startswith("field: ")
    assert caught.value.field == "field"


@pytest.mark.parametrize(
    ("check", "value", "result"),
    [
        (checks.texts, ["a", ""], ("a", "")),
        (checks.name, "a" * 63, "a" * 63),
        (checks.variable, "lower.case", "lower.case"),
        (checks.absolute_path, "/srv/..hidden", "/srv/..hidden"),
        (low, 9, 9),
        (checks.seconds, 3, 3.0),
        (checks.signal_number, "term", signal.SIGTERM),
        (checks.signal_number, "SIGUSR1", signal.SIGUSR1),
        (checks.signal_number, 9, signal.SIGKILL),
    ],
)
def test_keeps_the_rule(check: Check, value: Any, result: Any) -> None:
    assert check("field", value) == result


def test_zero_seconds_where_they_mean_something() -> None:
    assert checks.seconds("field", 0, zero=True) == 0.0
    with pytest.raises(SpecError, match="is not 0 or more seconds"):
        checks.seconds("field", -1, zero=True)


def test_what_is_there_twice_is_named() -> None:
    checks.no_doubles("field", ["a", "b"])
    with pytest.raises(SpecError, match="field: 'b' is there twice"):
        checks.no_doubles("field", ["b", "a", "b"])


def test_one_of_tells_which() -> None:
    with pytest.raises(SpecError, match="field: 'z' is none of a, b"):
        checks.one_of("field", "z", {"b", "a"})
