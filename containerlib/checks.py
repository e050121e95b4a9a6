"""Rules that several fields share. A rule that is broken names the field, the value and itself. Pure."""

import re
import signal
from collections.abc import Collection
from typing import Any

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[^=\0]+")


class SpecError(ValueError):
    """`rule` completes the sentence that the value begins: "is not an absolute path"."""

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(f"{field}: {value!r} {rule}")
        self.field = field
        self.value = value
        self.rule = rule


def of_type[T](field: str, value: Any, kind: type[T], words: str) -> T:
    """`words` say what it should have been. True and False are no numbers here."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise SpecError(field, value, f"is not {words}")
    return value


def text(field: str, value: Any) -> str:
    if "\0" in of_type(field, value, str, "a text"):
        raise SpecError(field, value, "contains a NUL character")
    return str(value)


def texts(field: str, values: Any) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, Collection):
        raise SpecError(field, values, "is not a sequence of texts")
    return tuple(text(field, each) for each in values)


def name(field: str, value: Any) -> str:
    """A DNS label: names become host names, directories and cgroups."""
    if not _NAME.fullmatch(text(field, value)):
        raise SpecError(field, value, "is not 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends")
    return str(value)


def variable(field: str, value: Any) -> str:
    if not _VARIABLE.fullmatch(of_type(field, value, str, "a text")):
        raise SpecError(field, value, "is not a name of an environment variable: not empty, without '=' and NUL")
    return str(value)


def absolute_path(field: str, value: Any) -> str:
    path = text(field, value)
    if not path.startswith("/") or ".." in path.split("/"):
        raise SpecError(field, value, "is not an absolute path without '..'")
    return path


def whole(field: str, value: Any, low: int, high: int) -> int:
    of_type(field, value, int, "a whole number")
    if not low <= value <= high:
        raise SpecError(field, value, f"is not from {low} to {high}")
    return int(value)


def seconds(field: str, value: Any, *, zero: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(field, value, "is not a number of seconds")
    # Written so that NaN breaks it, too.
    if not (value >= 0 if zero else value > 0) or value == float("inf"):
        raise SpecError(field, value, f"is not {'0 or more' if zero else 'more than 0'} seconds")
    return float(value)


def one_of(field: str, value: Any, known: Collection[str]) -> str:
    if value not in known:
        raise SpecError(field, value, f"is none of {', '.join(sorted(known))}")
    return str(value)


def signal_number(field: str, value: Any) -> signal.Signals:
    """By number or by name, with or without SIG."""
    try:
        if isinstance(value, str):
            return signal.Signals[value.upper() if value.upper().startswith("SIG") else f"SIG{value.upper()}"]
        return signal.Signals(of_type(field, value, int, "a signal"))
    except (KeyError, SpecError, ValueError):
        raise SpecError(field, value, "is not a signal such as TERM") from None


def no_doubles(field: str, values: Collection[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise SpecError(field, value, "is there twice")
        seen.add(value)
