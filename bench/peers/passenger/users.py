"""Execute a command that finds users whom this machine does not have: python -m bench.peers.passenger.users DIRECTORY -- COMMAND

Passenger switches to the owner of a site only if it finds a name for him. DIRECTORY/passwd and DIRECTORY/group lie over those of
/etc in a mount namespace of the command's own; the machine's are as they were.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.peers.place import Site
from dispatcher.quickstart.confined import MS_BIND, MS_REC, MS_SLAVE, mount

FILES = ("passwd", "group")


def write_users(sites: Sequence[Site], directory: Path) -> None:
    """The machine's own, and one for each site."""
    lines = {
        "passwd": [f"{site.name}:x:{site.uid}:{site.uid}::{site.root}:/usr/sbin/nologin\n" for site in sites],
        "group": [f"{site.name}:x:{site.uid}:\n" for site in sites],
    }
    directory.mkdir()
    for name in FILES:
        (directory / name).write_text(Path("/etc", name).read_text() + "".join(lines[name]))


def main(directory: Path, command: Sequence[str]) -> None:
    os.unshare(os.CLONE_NEWNS)
    mount("none", Path("/"), "", MS_REC | MS_SLAVE)
    for name in FILES:
        mount(str(directory / name), Path("/etc", name), "", MS_BIND)
    os.execv(command[0], list(command))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[3:])
