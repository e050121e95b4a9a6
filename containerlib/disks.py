"""Which disks of this host files lie on.

    of(["/srv/blog", "/var/lib/fastcontainer"]) == ("8:0",)

What lies on none (tmpfs, NFS, an overlay) has none. Limits of io count for whole disks, so a partition stands for its own.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PROC, _SYS = Path("/proc"), Path("/sys")


def of(paths: Iterable[str | Path], proc: Path = _PROC, sys: Path = _SYS) -> tuple[str, ...]:
    """MAJOR:MINOR of each, once, in the order of the paths. Links are not followed: where they lead may be for others to say."""
    found: dict[str, None] = {}
    for path in paths:
        with suppress(FileNotFoundError):  # who wants to mount it is told
            number = os.stat(path, follow_symlinks=False).st_dev  # noqa: PTH116 - Path.lstat says the same, less plainly
            if disk := _whole(sys, f"{os.major(number)}:{os.minor(number)}") or _behind(proc, sys, number):
                found[disk] = None
    return tuple(found)


def _whole(sys: Path, number: str) -> str:
    """Empty if it is no block device."""
    device = sys / "dev/block" / number
    if not device.exists():
        return ""
    if (device / "partition").exists():
        return (device.resolve().parent / "dev").read_text().strip()
    return number


def _behind(proc: Path, sys: Path, number: int) -> str:
    """Of a file system that has a number of its own beside its disk's, such as btrfs."""
    wanted = f"{os.major(number)}:{os.minor(number)}"
    for line in (proc / "self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        source = rest.split(" ")[1]
        if fields.split(" ")[2] == wanted and source.startswith("/dev/"):
            with suppress(FileNotFoundError):
                device = os.stat(source).st_rdev  # noqa: PTH116
                return _whole(sys, f"{os.major(device)}:{os.minor(device)}")
    return ""
