"""Checks of what a strategy or step was given, whose error names the field, the value and the rule."""

from pathlib import PurePath


def require(part: object, name: str, holds: object, rule: str) -> None:
    """Raises ValueError unless `holds` is true (or not empty, as a match is)."""
    if not holds:
        raise ValueError(f"{type(part).__name__}.{name} {getattr(part, name)!r}: {rule}")


def require_time(part: object, name: str = "timeout_s") -> None:
    require(part, name, getattr(part, name) > 0, "must be a number of seconds above 0")


def is_plain_path(word: str) -> bool:
    """Absolute, without `..`: what it names lies where it seems to."""
    return word.startswith("/") and ".." not in PurePath(word).parts and "\0" not in word
