"""Images: root filesystems in versions, built once, shared read-only by all containers.

    from pathlib import Path
    from containerlib import images
    from containerlib.bootstrap.debootstrap import Debootstrap

    store = images.Store(Path("/var/lib/fastcontainer/images"))
    tools = images.Shell("tools", "apt-get update && apt-get install -y less")
    image = images.build(store, "php", Debootstrap("bookworm", packages=("php-cli",)), (tools,), progress=print)
    image.root, image.version, image.manifest.config        # a Path to mount, a name, command and env where the source has them

    images.build(store, "php", ...the same...)              # nothing to do: the same image
    images.provision(store, "php", (tools,), only=("tools",))     # a new version on top of the newest
    store.revisions("php"); store.newest("php"); store.names()
    images.build(store, "php", ..., limits=images.Limits(cpu=1.0, memory_bytes=4 << 30, pids=500))  # of each program
    images.verify(image)                                    # [] or what changed
    images.archive(image, Path("php.tar.xz"), on_member=print, dry_run=True)
    store.remove_unused("php", used={image.version}, keep=2)

Needs root. What fails raises images.ImageError, whose text says what failed and what to do; bad arguments raise ValueError.
Everything blocks, some of it for minutes: call it from a worker thread.
"""

from containerlib.cgroups import Limits
from containerlib.images.archive import Compression, archive
from containerlib.images.bench import Bench
from containerlib.images.build import Bootstrap, FromImage, Step, build, provision
from containerlib.images.manifest import Config, Manifest
from containerlib.images.progress import Built, Event, Found, Line, Progress, StepBegan, Waiting, silent
from containerlib.images.steps import Copy, Shell, Template
from containerlib.images.store import Image, ImageError, Store, hold, mark, verify

__all__ = [
    "Bench",
    "Bootstrap",
    "Built",
    "Compression",
    "Config",
    "Copy",
    "Event",
    "Found",
    "FromImage",
    "Image",
    "ImageError",
    "Limits",
    "Line",
    "Manifest",
    "Progress",
    "Shell",
    "Step",
    "StepBegan",
    "Store",
    "Template",
    "Waiting",
    "archive",
    "build",
    "hold",
    "mark",
    "provision",
    "silent",
    "verify",
]
