"""What a container sees as its files. Pure."""

import re
from dataclasses import dataclass

from containerlib.checks import SpecError, absolute_path, of_type, text, whole

TMPFS_BYTES = 64 << 20
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._-]*(?:@[A-Za-z0-9._-]+)?")


@dataclass(frozen=True, slots=True)
class Usr:
    """The host's /usr read-only, a small versioned /etc, everything else fresh."""

    def describe(self) -> str:
        return "usr"


@dataclass(frozen=True, slots=True)
class Image:
    """A built image below a writable layer that ends with the container: `NAME`, its current version, or `NAME@VERSION`. How it is
    built, where its definition says so: a strategy of containerlib/bootstrap, steps of containerlib/images."""

    reference: str
    bootstrap: object = None
    steps: tuple[object, ...] = ()

    def __post_init__(self) -> None:
        if self.steps and self.bootstrap is None:
            raise SpecError(
                "bootstrap.image", self.reference, "has steps, but nothing that they are done to: name its bootstrap"
            )
        for each, method in ((self.bootstrap, "build"), *((step, "apply") for step in self.steps)):
            if each is not None and not callable(getattr(each, method, None)):
                raise SpecError(
                    "bootstrap.image",
                    each,
                    f"is no {'bootstrap' if method == 'build' else 'step'}: it has no {method}()",
                )
        if self.bootstrap is not None and "@" in self.reference:
            raise SpecError("bootstrap.image", self.reference, "names a version of what is yet to be built")
        if not _IMAGE.fullmatch(text("bootstrap.image", self.reference)):
            raise SpecError("bootstrap.image", self.reference, "is not the name of an image, NAME or NAME@VERSION")

    @property
    def name(self) -> str:
        return self.reference.partition("@")[0]

    def describe(self) -> str:
        return f"image {self.reference}"


Root = Usr | Image


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of the host. Never with setuid programs or devices."""

    source: str
    target: str
    readonly: bool = False

    def __post_init__(self) -> None:
        absolute_path("mount.source", self.source)
        _target("mount.target", self.target)
        of_type("mount.readonly", self.readonly, bool, "True or False")


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """Memory as a directory; what it holds counts as the container's memory."""

    target: str
    size_bytes: int = TMPFS_BYTES
    mode: int = 0o1777

    def __post_init__(self) -> None:
        _target("tmpfs.target", self.target)
        whole("tmpfs.size", self.size_bytes, 4096, 1 << 40)
        whole("tmpfs.mode", self.mode, 0, 0o1777)


def _target(field: str, path: str) -> None:
    """Whatever lies above these would fall to whoever provides the mount."""
    names = [name for name in absolute_path(field, path).split("/") if name not in ("", ".")]
    if not names or names[0] in ("proc", "sys", "dev", ".fastcontainer"):
        raise SpecError(
            field, path, "is the root itself, or in /proc, /sys, /dev or /.fastcontainer, which the container keeps"
        )


@dataclass(frozen=True, slots=True)
class Hidden:
    """Paths that are masked, or can only be read, on top of those that always are (plan.py)."""

    masked: tuple[str, ...] = ()
    readonly: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for path in self.masked:
            absolute_path("masked", path)
        for path in self.readonly:
            absolute_path("readonly", path)
