"""What a site's process is kept from, read from the kernel and not from anybody's manual."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

NAMESPACES = ("mnt", "pid", "net", "user")
MEMORY_FILES = ("memory.limit_in_bytes", "memory.max")  # cgroup v1, v2
GROUPS = Path("/sys/fs/cgroup")
_MIB = 1 << 20
_NO_LIMIT = 1 << 60  # cgroup v1 says a number near 2^63


class Isolation(msgspec.Struct, frozen=True):
    """`user`: "own" for each site, "shared" by all, or "root". The namespaces of its own, neither the host's nor its neighbour's.
    `seccomp`: a filter of system calls. `memory_limit`: that of a control group, or of the address space, as words."""

    user: str
    namespaces: tuple[str, ...]
    seccomp: bool
    no_new_privileges: bool
    memory_limit: str

    def words(self) -> dict[str, str]:
        """By column."""
        return {
            "user id": self.user,
            **{f"{name} ns": "own" if name in self.namespaces else "-" for name in NAMESPACES},
            "seccomp": "filter" if self.seccomp else "-",
            "no_new_privs": "yes" if self.no_new_privileges else "-",
            "memory limit": self.memory_limit or "-",
        }


class Facts(msgspec.Struct, frozen=True):
    """Of one process."""

    uid: int  # as the host sees it
    namespaces: dict[str, str]
    seccomp: int
    no_new_privileges: bool
    memory_bytes: int | None
    address_space_bytes: int | None


def facts(pid: int) -> Facts:
    directory = Path(f"/proc/{pid}")
    lines = (line.partition(":") for line in (directory / "status").read_text().splitlines())
    status = {name: value.strip() for name, _, value in lines}
    return Facts(
        uid=int(status["Uid"].split()[1]),
        namespaces=namespaces(pid),
        seccomp=int(status["Seccomp"]),
        no_new_privileges=status["NoNewPrivs"] == "1",
        memory_bytes=memory_limit((directory / "cgroup").read_text()),
        address_space_bytes=address_space((directory / "limits").read_text()),
    )


def namespaces(pid: int | str) -> dict[str, str]:
    return {name: str(Path(f"/proc/{pid}/ns", name).readlink()) for name in NAMESPACES}


def isolation(one: Facts, other: Facts, host: Facts) -> Isolation:
    """Pure: of one site's process, beside another's and one that is in no peer at all."""
    user = "root" if one.uid == 0 else "own" if one.uid != other.uid else "shared"
    own = tuple(
        name for name in NAMESPACES if one.namespaces[name] not in (host.namespaces[name], other.namespaces[name])
    )
    limit = ""
    if one.memory_bytes is not None and one.memory_bytes != host.memory_bytes:
        limit = f"cgroup {one.memory_bytes // _MIB} MiB"
    elif one.address_space_bytes is not None and one.address_space_bytes != host.address_space_bytes:
        limit = f"address space {one.address_space_bytes // _MIB} MiB"
    return Isolation(user, own, one.seccomp == 2, one.no_new_privileges, limit)


def memory_limit(groups: str, mount: Path = GROUPS) -> int | None:
    """The least of its control group's and of those above, in bytes, of a text such as /proc/PID/cgroup."""
    found = []
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = mount / controllers
        group = top / path.lstrip("/")
        found += _limits(directory for directory in (group, *group.parents) if directory.is_relative_to(top))
    return min(found, default=None)


def _limits(directories: Iterable[Path]) -> list[int]:
    words = [
        (directory / name).read_text()
        for directory in directories
        for name in MEMORY_FILES
        if (directory / name).exists()
    ]
    return [int(word) for word in words if word.strip() != "max" and int(word) < _NO_LIMIT]


def address_space(limits: str) -> int | None:
    """Pure: of a text such as /proc/PID/limits."""
    line = next(line for line in limits.splitlines() if line.startswith("Max address space"))
    word = line.removeprefix("Max address space").split()[0]
    return None if word == "unlimited" else int(word)
