"""Runs one part of the tests beside the other, in a network and a mount namespace of its own:

    python -m tests.beside [ARG...]     (ARGs go to pytest)

So neither part sees the other's links, addresses, ports, tables of nftables and mounts, and what one leaves behind is its own.
Without root, and so without system tests, there is nothing to keep apart.
"""

import os
import sys
import tempfile
from pathlib import Path

from pyroute2 import IPRoute

from containerlib import kernel

MS_MOVE = 8192
LOOPBACK = 1  # the first link of each network namespace


def leave() -> None:
    os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    renew_sysfs()
    with IPRoute() as route:
        route.link("set", index=LOOPBACK, state="up")


def renew_sysfs() -> None:
    """One shows the links of the namespace that it was mounted in. What is mounted below it goes along."""
    with tempfile.TemporaryDirectory() as new:
        kernel.mount("sysfs", new, "sysfs", 0)
        for path in below_sysfs(Path("/proc/self/mountinfo").read_text()):
            kernel.mount(f"/sys/{path}", f"{new}/{path}", "", kernel.MS_BIND | kernel.MS_REC)
        kernel.mount(new, "/sys", "", MS_MOVE)


def below_sysfs(mountinfo: str) -> list[str]:
    """Pure: mounts that no other lies between, without /sys/."""
    found: list[str] = []
    points = sorted({line.split(" ")[4] for line in mountinfo.splitlines()})
    for path in (point.removeprefix("/sys/") for point in points if point.startswith("/sys/")):
        if not any(path.startswith(f"{upper}/") for upper in found):
            found.append(path)
    return found


def main() -> None:
    if os.geteuid() == 0:
        leave()
    words = ("-m", "pytest", "--part=beside", *sys.argv[1:])
    os.execv(sys.executable, (sys.executable, *words))


if __name__ == "__main__":
    main()
