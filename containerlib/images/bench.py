"""What a strategy or step works with: a place for what it needs on the way, and programs that end with the build."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from containerlib import programs
from containerlib.cell import Container
from containerlib.cgroups import Limits
from containerlib.images import unpack
from containerlib.images.progress import Line, Progress, silent

_UNPACK = Path(unpack.__file__)


@dataclass(frozen=True, slots=True)
class Bench:
    """`scratch` is an empty directory beside the root, removed after the step; `held` is kept open by every program
    (cell.py), each of which may use what `limits` says."""

    image: str
    step: str
    scratch: Path
    progress: Progress = silent
    held: tuple[int, ...] = ()
    limits: Limits | None = None

    def run(
        self,
        *command: str | Path,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        cwd: Path = Path("/"),
        container: Container | None = None,
        remedy: str = "",
    ) -> str:
        """What it wrote to stdout. Raises programs.ProgramError."""
        return programs.run(
            command,
            timeout_s=timeout_s,
            env=env,
            cwd=cwd,
            container=container,
            held=self.held,
            on_line=self.tell,
            remedy=remedy,
            limits=self.limits,
        )

    def tell(self, text: str) -> None:
        self.progress(Line(self.image, self.step, text))

    def unpack(self, archive: Path, root: Path, *, timeout_s: float, devices: bool = False, onto: bool = False) -> None:
        """A tar archive into the root, by a process that sees nothing else (unpack.py)."""
        order = {"archive": str(archive), "root": str(root), "devices": devices, "onto": onto}
        self.run(sys.executable, "-I", _UNPACK, json.dumps(order), timeout_s=timeout_s)
