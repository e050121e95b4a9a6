"""Containers on Linux, by a library.

    from containerlib import Phase, define

What definitions need is loaded when it is asked for: the launcher, a tiny process, imports this package, too.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from containerlib.dsl import Builder, DefinitionError, define
    from containerlib.hooks import Moment, OnFailure, Phase, Side

_HOMES = {
    "Builder": "containerlib.dsl",
    "DefinitionError": "containerlib.dsl",
    "define": "containerlib.dsl",
    "Moment": "containerlib.hooks",
    "OnFailure": "containerlib.hooks",
    "Phase": "containerlib.hooks",
    "Side": "containerlib.hooks",
}
__all__ = ["Builder", "DefinitionError", "Moment", "OnFailure", "Phase", "Side", "define"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
