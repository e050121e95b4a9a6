"""Strategy `function`: a Python function of the definition's fills the root.

It runs in the process that builds. What it starts by itself may outlive a killed build: scripts and programs are better off in
`shell`.
"""

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from containerlib.images import recipe
from containerlib.images.bench import Bench
from containerlib.images.fields import require
from containerlib.images.progress import Progress


@dataclass(frozen=True, slots=True)
class Function:
    """`function(root, progress)`. The recipe is its source text and `version`, which is to change with all else that it uses."""

    function: Callable[[Path, Progress], object]
    version: str = ""

    def __post_init__(self) -> None:
        require(self, "function", callable(self.function), "must be callable as function(root, progress)")

    def recipe(self) -> str:
        name = f"{self.function.__module__}.{getattr(self.function, '__qualname__', type(self.function).__qualname__)}"
        return recipe.of(self, omit=("function",), name=name, source=_source(self.function))

    def build(self, root: Path, bench: Bench) -> None:
        self.function(root, bench.progress)


def _source(function: object) -> str:
    """Nothing where Python cannot find it (an object's, a C function's): then the name and the version must do."""
    try:
        text = inspect.getsource(function)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()
