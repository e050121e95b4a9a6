"""Strategy `oci`: images as Docker, Podman and others make them, fetched by skopeo and unpacked by umoci.

    Oci("docker://debian:12")                   from a registry
    Oci("oci:/srv/layouts/blog:latest")         an OCI layout, a directory
    Oci("oci-archive:/srv/blog.tar")            the same in an archive
    Oci("docker-archive:/srv/blog.tar")         what `docker save` wrote

What the image says about command, environment, working directory and user is in the manifest's `config`.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from containerlib import programs
from containerlib.bootstrap.directory import refuse_devices
from containerlib.images import recipe
from containerlib.images.bench import Bench
from containerlib.images.fields import require, require_time
from containerlib.images.manifest import Config

_SOURCE = re.compile(r"docker://[\w][\w./:@-]*|(oci|oci-archive|docker-archive):/[^\0]+")
_RULE = "must be docker://NAME, oci:/PATH[:TAG], oci-archive:/PATH[:TAG] or docker-archive:/PATH[:NAME]"
_LOOK_UP_S = 300.0
_TAG = "image"


@dataclass(frozen=True, slots=True)
class Oci:
    """`devices`: device files and FIFOs may be in the image's layers."""

    source: str
    devices: bool = False
    timeout_s: float = 1800

    def __post_init__(self) -> None:
        require(self, "source", _SOURCE.fullmatch(self.source), _RULE)
        require_time(self)

    def recipe(self) -> str:
        """A registry or layout is asked what the name means at the moment."""
        command = ("skopeo", "inspect", "--raw", self.source)
        manifest = programs.run(command, timeout_s=_LOOK_UP_S, remedy=self._remedy())
        return recipe.of(self, omit=("source",), manifest=manifest)

    def build(self, root: Path, bench: Bench) -> Config:
        layout = bench.scratch / "layout"
        bench.run(
            "skopeo",
            "--tmpdir",
            bench.scratch,
            "copy",
            self.source,
            f"oci:{layout}:{_TAG}",
            timeout_s=self.timeout_s,
            env={"TMPDIR": str(bench.scratch)},
            remedy=self._remedy(),
        )
        root.rmdir()  # umoci makes it
        bench.run("umoci", "raw", "unpack", "--image", f"{layout}:{_TAG}", root, timeout_s=self.timeout_s)
        if not self.devices:
            refuse_devices(root)
        return read_config(layout)

    def _remedy(self) -> str:
        place = "that the registry can be reached" if self.source.startswith("docker:") else "that it is there"
        return f"check the name {self.source} and {place}; then build again"


def read_config(layout: Path) -> Config:
    """Of the one image in an OCI layout that skopeo wrote. What is absent takes its default."""

    def blob(descriptor: dict[str, str]) -> dict[str, object]:
        algorithm, _, digest = descriptor["digest"].partition(":")
        found: dict[str, object] = json.loads((layout / "blobs" / algorithm / digest).read_bytes())
        return found

    index = json.loads((layout / "index.json").read_bytes())
    manifest = blob(index["manifests"][0])
    described = manifest["config"]
    assert isinstance(described, dict)
    return config_of(blob(described))


def config_of(image: dict[str, object]) -> Config:
    """From an OCI image configuration. Pure."""
    said = image.get("config") or {}
    assert isinstance(said, dict)
    pairs = (word.partition("=") for word in said.get("Env") or ())
    return Config(
        command=(*(said.get("Entrypoint") or ()), *(said.get("Cmd") or ())),
        env={name: value for name, _, value in pairs},
        workdir=said.get("WorkingDir") or "/",
        user=said.get("User") or "",
    )
