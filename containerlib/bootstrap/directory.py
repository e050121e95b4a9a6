"""Strategy `directory`: a copy of a directory of the host, with owners, modes, hard links and file capabilities."""

from dataclasses import dataclass
from pathlib import Path

from containerlib.images import contents, recipe
from containerlib.images.bench import Bench
from containerlib.images.fields import require, require_time


@dataclass(frozen=True, slots=True)
class Directory:
    """`devices`: device files and FIFOs may be among what is copied."""

    source: Path
    devices: bool = False
    timeout_s: float = 1800

    def __post_init__(self) -> None:
        require(self, "source", Path(self.source).is_absolute(), "must be an absolute path of the host")
        require_time(self)

    def recipe(self) -> str:
        """Reads every file: times and sizes would not show each change."""
        return recipe.of(self, omit=("source",), contents=contents.digest(Path(self.source)))

    def build(self, root: Path, bench: Bench) -> None:
        # Kernel copies, where the file system shares blocks not even that.
        bench.run("cp", "-a", "--reflink=auto", f"{self.source}/.", root, timeout_s=self.timeout_s)
        if not self.devices:
            refuse_devices(root)


def refuse_devices(root: Path) -> None:
    found = contents.devices(root)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        names = ", ".join(found[:3])
        raise ValueError(f"device files or FIFOs in it: {names}{more}; remove them, or allow them with devices=True")
