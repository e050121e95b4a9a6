"""The digest of everything that a build depends on: the same recipe is not built twice.

Strategies and steps are frozen dataclasses, so what they depend on are their fields and, where a field names something outside
(an archive, a branch), what that is at the moment. A time limit changes nothing in the result and is left out.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

NOT_INPUTS = frozenset({"timeout_s"})


def of(part: object, *, omit: tuple[str, ...] = (), **more: str) -> str:
    """The digest of a dataclass instance: its type, its fields without `omit`, and `more`."""
    assert dataclasses.is_dataclass(part)
    names = [field.name for field in dataclasses.fields(part) if field.name not in NOT_INPUTS.union(omit)]
    values = {name: getattr(part, name) for name in names}
    return _sha256([type(part).__name__, values, more])


def combined(recipes: list[str]) -> str:
    return _sha256(recipes)


def of_file(path: Path) -> str:
    """Of its contents. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a recipe cannot depend on a {type(value).__name__}")
