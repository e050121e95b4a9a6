"""What tests of images need: a bench, a root small enough to be copied, and a look at what programs left."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from containerlib.images import Bench, Event, Line
from containerlib.images.progress import silent


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Bench("test", "step", scratch, silent)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Empty, as a strategy gets it."""
    path = tmp_path / "root"
    path.mkdir()
    return path


def fill_with_busybox(root: Path) -> None:
    """A root in which scripts run."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    (root / "bin").mkdir(exist_ok=True)
    (root / "etc").mkdir(exist_ok=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in (
        "sh",
        "cat",
        "ls",
        "id",
        "echo",
        "true",
        "mkdir",
        "mount",
        "mknod",
        "chown",
        "chmod",
        "sleep",
        "touch",
        "hostname",
        "ps",
        "su",
    ):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:4711:4712::/srv:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nweb:x:4712:\n")


@pytest.fixture
def busybox(root: Path) -> Path:
    fill_with_busybox(root)
    return root


class Heard:
    """A progress callback that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def lines(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Line)]


def processes(word: str) -> list[int]:
    """Those that have the word in their command line, wherever they run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (path / "cmdline").read_bytes().split(b"\0"):
                found.append(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def wait_until(condition: Callable[[], object], *, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)
