"""Strategy `shell`: a script of the operator's that fills the root, run on the host by /bin/sh -e or by what its `#!` line names.

It runs as root with the host's files, in the root as working directory (also $ROOT): it is as trusted as the definition that
holds it. Its processes and mounts end with it.
"""

from dataclasses import dataclass
from pathlib import Path

from containerlib.images import recipe
from containerlib.images.bench import Bench
from containerlib.images.fields import require, require_time


@dataclass(frozen=True, slots=True)
class Shell:
    """What the script depends on but does not say (a server's newest archive) does not show in the recipe: build `again` then."""

    script: str
    timeout_s: float = 1800

    def __post_init__(self) -> None:
        require(self, "script", self.script.strip(), "must not be empty")
        require_time(self)

    def recipe(self) -> str:
        return recipe.of(self)

    def build(self, root: Path, bench: Bench) -> None:
        file = bench.scratch / "script"
        file.write_text(self.script)
        file.chmod(0o700)
        command = (file,) if self.script.startswith("#!") else ("/bin/sh", "-e", file)
        remedy = "correct the script of the shell bootstrap, then build again"
        bench.run(*command, cwd=root, env={"ROOT": str(root)}, timeout_s=self.timeout_s, remedy=remedy)
