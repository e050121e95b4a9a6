"""A spec as plain values, for people and scripts. Pure."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any

from containerlib.spec import ContainerSpec


def plain(value: Any) -> Any:
    """Dataclasses as objects, functions by their names: what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        # A root without fields would say nothing of itself.
        return own or {type(value).__name__.lower(): True}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if isinstance(value, Enum):
        return value.name.removeprefix("SIG") if isinstance(value, int) else value.value
    if callable(value):
        return getattr(value, "__name__", repr(value))
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def lines(spec: ContainerSpec) -> Iterator[tuple[str, str]]:
    """(field, value) of what is not as it always is."""
    usual = plain(ContainerSpec(spec.name, spec.command))
    for name, value in plain(spec).items():
        if value != usual[name] or name in ("name", "command"):
            yield from _flat(name, value, usual[name])


def _flat(name: str, value: Any, usual: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and isinstance(usual, dict):
        for key, each in value.items():
            if each != usual.get(key) and (key in usual or each not in (None, "", [], {})):
                yield from _flat(f"{name}.{key}", each, usual.get(key))
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for each in value:
            yield name, _words(each)
    else:
        yield name, " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _words(value: dict[str, Any], said: Callable[[Any], bool] = lambda each: each not in (None, "", [], {})) -> str:
    return " ".join(f"{key}={each}" for key, each in value.items() if said(each))
