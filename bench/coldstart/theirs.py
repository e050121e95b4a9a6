"""Others that start the same server: spawned, visited until it answers, then killed. No proxy is in front of any."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.coldstart import bundle
from bench.coldstart.visit import Address, visit, wait_until_closed
from containerlib.cgroups.tree import MOUNT

HOST = "127.0.0.1"
PODMAN_GROUP = f"fastcontainer-bench-{os.getpid()}-podman"
PODMAN_RUN = Path("/run", PODMAN_GROUP)


@dataclass(frozen=True, slots=True)
class Rival:
    name: str
    isolation: str
    command: tuple[str, ...]
    address: Address
    page: bytes
    log: Path
    remove: tuple[str, ...] = ()  # what ends it, where killing its first process does not

    def launch_ms(self) -> float:
        """From its start to the first byte; it is gone when this returns."""
        began = time.perf_counter()
        pid = self._spawn()
        try:
            return (visit(self.address, "bench", self.page).at - began) * 1000
        finally:
            if self.remove:
                subprocess.run(self.remove, check=False, capture_output=True)
            else:
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            wait_until_closed(self.address)

    def why_not(self) -> str:
        """Tried once: empty if it runs on this machine."""
        if not Path(self.command[0]).exists():
            return f"{self.command[0]} is not installed"
        try:
            self.launch_ms()
        except (OSError, ValueError) as error:
            return f"{error}: {self.log.read_text(errors='replace')[-500:].strip()}"
        return ""

    def _spawn(self) -> int:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(self.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        ]
        # A process group of its own: Ctrl-C is for this bench, which ends what it started in order.
        return os.posix_spawn(self.command[0], self.command, os.environ, file_actions=actions, setpgroup=0)


def rivals(directory: Path, site: Path, page: bytes) -> list[Rival]:
    directory.mkdir()
    address = (HOST, free_port())
    listen = f"{HOST}:{address[1]}"
    inside = bundle.httpd(listen, bundle.CONTENT)
    name = f"bench-{os.getpid()}"
    runc = ("/usr/sbin/runc", "--root", str(directory / "runc"))
    _write_bundle(directory / "bundle", str(site), inside)
    make_root(directory / "podman-root")
    podman = bundle.podman(str(directory / "podman"), str(PODMAN_RUN))

    def rival(name: str, isolation: str, command: Sequence[str], remove: tuple[str, ...] = ()) -> Rival:
        return Rival(name, isolation, tuple(command), address, page, directory / f"{name}.log", remove)

    return [
        rival("spawn", "no isolation", bundle.httpd(listen, str(site))),
        rival("bwrap", "user, mount, pid, ipc, uts namespaces", bundle.bubblewrap(str(site), inside)),
        rival(
            "runc",
            "mount, pid, ipc, uts, cgroup namespaces, cgroups",
            (*runc, "run", "--bundle", str(directory / "bundle"), name),
            (*runc, "delete", "--force", name),
        ),
        rival(
            "podman",
            "by runc: mount, pid, ipc, uts namespaces, cgroups, seccomp",
            (*podman, *bundle.podman_run(name, PODMAN_GROUP, str(directory / "podman-root"), str(site), inside)),
            (*podman, "rm", "--force", "--time", "0", name),
        ),
    ]


def remove_podmans() -> None:
    """What podman makes for all its containers, and does not remove with the last: a group in each hierarchy, and its state."""
    remove_groups(PODMAN_GROUP)
    shutil.rmtree(PODMAN_RUN, ignore_errors=True)


def remove_groups(name: str) -> None:
    for top in (*MOUNT.glob(f"*/{name}"), MOUNT / name):
        for directory, _, _ in os.walk(top, topdown=False):
            Path(directory).rmdir()


def _write_bundle(directory: Path, site: str, command: Sequence[str]) -> None:
    make_root(directory / "rootfs")
    (directory / "config.json").write_text(json.dumps(bundle.runc_config(site, command)))


def make_root(root: Path) -> None:
    for name in bundle.ROOT_DIRECTORIES:
        (root / name).mkdir(parents=True)
    for name in bundle.USR_LINKS:
        (root / name).symlink_to(f"usr/{name}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
