"""Go back to the control groups that something was started in.

With cgroup v1 the containers' groups lie below those of the agent (whoever limits it limits them too), and a shell from which
people type `./quickstart down` may well be in others. With v2 they lie at the top or where systemd delegated them.
"""

from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")


def own_groups() -> str:
    return Path("/proc/self/cgroup").read_text()


def directories(groups: str, mount: Path = MOUNT) -> list[Path]:
    """Those of cgroup v1's controllers in a text such as /proc/PID/cgroup."""
    found = []
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and not controllers.startswith("name="):
            found += [mount / controller / path.lstrip("/") for controller in controllers.split(",")]
    return found


def join(groups: str, mount: Path = MOUNT) -> None:
    """A group that is gone held nothing of ours: it could not have gone otherwise."""
    for directory in directories(groups, mount):
        if directory.is_dir():
            (directory / "cgroup.procs").write_text("0")  # 0: whoever writes it
