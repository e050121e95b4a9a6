"""Strategy `tarball`: an archive of a root, compressed with gzip, bzip2, xz, zstd or not at all.

Owners are taken by number, since names belong to the archive's own passwd. Refused: absolute paths, `..`, links that leave the
root, device files and FIFOs unless `devices`. It is unpacked from within the root (images/unpack.py).
"""

from dataclasses import dataclass
from pathlib import Path

from containerlib.images import recipe
from containerlib.images.bench import Bench
from containerlib.images.fields import require, require_time


@dataclass(frozen=True, slots=True)
class Tarball:
    archive: Path
    devices: bool = False
    timeout_s: float = 1800

    def __post_init__(self) -> None:
        require(self, "archive", Path(self.archive).is_absolute(), "must be an absolute path of the host")
        require_time(self)

    def recipe(self) -> str:
        return recipe.of(self, omit=("archive",), contents=recipe.of_file(Path(self.archive)))

    def build(self, root: Path, bench: Bench) -> None:
        bench.unpack(Path(self.archive), root, timeout_s=self.timeout_s, devices=self.devices)
