"""Strategy `debootstrap`: Debian, Ubuntu and their kin from their packages, by mmdebstrap."""

import re
from dataclasses import dataclass
from pathlib import Path

from containerlib.bootstrap import apt_sources
from containerlib.images import contents, recipe
from containerlib.images.bench import Bench
from containerlib.images.fields import require, require_time

VARIANTS = ("extract", "essential", "apt", "minbase", "buildd", "important", "standard")
_SUITE = re.compile(r"[a-z0-9][a-z0-9.+/-]*")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+(:[a-z0-9-]+)?(=[\w.+:~-]+)?")
_COMPONENT = re.compile(r"[a-z][a-z0-9-]*")
# What mmdebstrap copies from the host for its own use; a container's are written when it starts.
_OF_THE_HOST = ("etc/hostname", "etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class Debootstrap:
    """`packages` come on top of the variant's, which are named as mmdebstrap does: `extract` has only what is listed, unpacked and
    not set up; `minbase` is the smallest Debian with apt.

    Without a `mirror` (a URL) the packages come from where this host gets its own for the suite, updates and security included.
    Packages that the mirror has renewed do not show in the recipe: build `again` then. Device files are not kept.
    """

    suite: str
    packages: tuple[str, ...] = ()
    variant: str = "minbase"
    mirror: str = ""
    components: tuple[str, ...] = ("main",)
    timeout_s: float = 3600

    def __post_init__(self) -> None:
        require(self, "suite", _SUITE.fullmatch(self.suite), "must be a suite's name, as in 'bookworm'")
        require(self, "packages", all(map(_PACKAGE.fullmatch, self.packages)), "must be package names")
        require(self, "variant", self.variant in VARIANTS, f"must be one of {', '.join(VARIANTS)}")
        is_url = re.fullmatch(r"[a-z+]+:/\S+", self.mirror)
        require(self, "mirror", not self.mirror or is_url, "must be a URL, or empty for the host's own sources")
        are_components = self.components and all(map(_COMPONENT.fullmatch, self.components))
        require(self, "components", are_components, "must be names as 'main', at least one")
        require_time(self)

    def sources(self) -> str:
        """apt's text. Raises LookupError if the host has none for the suite."""
        if not self.mirror:
            return apt_sources.of_host(self.suite)
        return f"deb {self.mirror} {self.suite} {' '.join(self.components)}\n"

    def recipe(self) -> str:
        return recipe.of(self, omit=("mirror", "components"), sources=self.sources())

    def build(self, root: Path, bench: Bench) -> None:
        sources = bench.scratch / "host.sources"
        sources.write_text(self.sources())
        bench.run(
            "mmdebstrap",
            "--mode=root",
            "--format=directory",
            f"--variant={self.variant}",
            *([f"--include={','.join(self.packages)}"] if self.packages else []),
            self.suite,
            root,
            sources,
            timeout_s=self.timeout_s,
            env={"TMPDIR": str(bench.scratch)},
            remedy="check the names of the suite and packages, and that the mirror can be reached; then build again",
        )
        for name in (*contents.devices(root), *_OF_THE_HOST):
            (root / name).unlink(missing_ok=True)
