"""What is known about a version of an image, written last: a directory without it is no version."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Config:
    """How the image wants to be run, where its source says so (OCI images do). Whoever defines a container may differ."""

    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""  # as the image names it: a name or number, perhaps with :group; empty is root


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    format: int = FORMAT
    name: str
    version: str
    recipe: str  # digest of what it was built from
    contents: str  # digest of the list of what is in it (contents.py)
    built: int  # seconds since the epoch
    size_bytes: int
    files: int
    bootstrap: str  # the strategy's name
    steps: tuple[str, ...] = ()
    config: Config = field(default_factory=Config)

    def to_bytes(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    @classmethod
    def from_bytes(cls, text: bytes) -> "Manifest":
        """Raises ValueError that names the key."""
        manifest = msgspec.json.decode(text, type=cls)
        if manifest.format != FORMAT:
            raise ValueError(f"format {manifest.format}: must be {FORMAT}")
        return manifest
