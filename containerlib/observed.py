"""What the kernel tells about a running container, read from outside as root. security.py judges it.

Names that the container chose are only listed and compared, never followed: /proc/PID/root is looked into with O_NOFOLLOW.
Not seen: whether an open socket belongs to another network namespace.
"""

import os
import re
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from containerlib.enter import Door, Ended
from containerlib.security import MASKED, NAMESPACES, DeviceFact, Facts, FileFact, MountFact, ProcessFact

_LISTEN = "0A"  # TCP_LISTEN in /proc/PID/net/tcp
_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_NO_LIMIT_V1 = 1 << 62  # memory.limit_in_bytes says the largest multiple of a page
_OCTAL = re.compile(r"\\([0-7]{3})")


def observe(door: Door) -> Facts:
    """Raises Ended if the container ends meanwhile; OSError."""
    try:
        pidfd = os.pidfd_open(door.pid)
    except ProcessLookupError as error:
        raise Ended(f"{door.name} ended meanwhile") from error
    try:
        pids = _processes(door)
        if door.pid not in pids:
            raise Ended(f"{door.name} ended meanwhile")  # its number was given to another process
        facts = _observe(door, pids)
        signal.pidfd_send_signal(pidfd, 0)  # all of that was about this very process
        return facts
    except (ProcessLookupError, FileNotFoundError) as error:
        raise Ended(f"{door.name} ended meanwhile") from error
    finally:
        os.close(pidfd)


def _observe(door: Door, pids: list[int]) -> Facts:
    proc = Path(f"/proc/{door.pid}")
    return Facts(
        processes=tuple(found for pid in pids if (found := _process(pid)) is not None),
        shared_namespaces=frozenset(
            name for name in NAMESPACES if (proc / "ns" / name).readlink() == Path("/proc/self/ns", name).readlink()
        ),
        uid_map=parse_map((proc / "uid_map").read_text()),
        gid_map=parse_map((proc / "gid_map").read_text()),
        mounts=tuple(parse_mounts((proc / "mountinfo").read_text())),
        devices=tuple(_devices(door.pid)),
        sensitive=frozenset(name for name in MASKED if Path("/proc", name).exists()),
        limits=read_limits(door.cgroups),
        links=parse_links((proc / "net/dev").read_text()),
        listening=tuple(_listening(proc)),
    )


def _processes(door: Door) -> list[int]:
    return [int(word) for word in Path(door.cgroups[0], "cgroup.procs").read_text().split()]


def _process(pid: int) -> ProcessFact | None:
    """None: it ended meanwhile, or is a zombie that nobody has reaped."""
    try:
        status = parse_status(Path(f"/proc/{pid}/status").read_text())
        if status["State"].startswith("Z"):
            return None
        hard = parse_files_max(Path(f"/proc/{pid}/limits").read_text())
        files = tuple(_files(pid))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return ProcessFact(
        pid=pid,
        name=status["Name"],
        uid=int(status["Uid"].split()[1]),
        capabilities={name: int(status[name], 16) for name in _SETS},
        seccomp=int(status.get("Seccomp", "0")),
        filters=int(status.get("Seccomp_filters", status.get("Seccomp", "0"))),  # counted from 5.9 on
        no_new_privileges=status["NoNewPrivs"] == "1",
        files_max=hard,
        files=files,
    )


def _files(pid: int) -> Iterator[FileFact]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)  # noqa: PTH115 - names that are no paths come out of it
            info = parse_status(Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text())
            status = entry.stat()  # of what is open, wherever it lies: nothing is walked
        except FileNotFoundError:
            continue  # closed meanwhile
        device = os.major(status.st_rdev), os.minor(status.st_rdev)
        yield FileFact(int(entry.name), target, int(info["mnt_id"]), status.st_mode, device)


def _devices(pid: int) -> Iterator[DeviceFact]:
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directory = os.open("dev", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    finally:
        os.close(root)
    try:
        for name in sorted(os.listdir(directory)):  # noqa: PTH208 - of a descriptor
            info = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
                yield DeviceFact(name, stat.S_ISBLK(info.st_mode), os.major(info.st_rdev), os.minor(info.st_rdev))
    finally:
        os.close(directory)


def _listening(proc: Path) -> Iterator[tuple[str, int]]:
    for name in ("tcp", "tcp6"):
        path = proc / "net" / name
        if path.exists():  # without IPv6 there is no tcp6
            yield from parse_listening(path.read_text())


def read_limits(directories: tuple[str, ...]) -> dict[str, int | float | None]:
    """Of whichever version of cgroups these directories are."""
    texts = {}
    for name in ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max"):
        for directory in directories:
            path = Path(directory, name)
            if path.exists():
                texts[name] = path.read_text().strip()
    return parse_limits(texts)


# ---- pure


def parse_limits(texts: dict[str, str]) -> dict[str, int | float | None]:
    memory = texts.get("memory.max", texts.get("memory.limit_in_bytes", "max"))
    pids = texts.get("pids.max", "max")
    quota, _, period = texts.get("cpu.max", "").partition(" ")
    quota, period = quota or texts.get("cpu.cfs_quota_us", "max"), period or texts.get("cpu.cfs_period_us", "100000")
    return {
        "memory": None if memory == "max" or int(memory) > _NO_LIMIT_V1 else int(memory),
        "pids": None if pids == "max" else int(pids),
        "cpu": None if quota in ("max", "-1") else int(quota) / int(period),
    }


def parse_status(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def parse_map(text: str) -> tuple[tuple[int, int, int], ...]:
    lines = (tuple(map(int, line.split())) for line in text.splitlines())
    return tuple((inside, outside, count) for inside, outside, count in lines)


def parse_files_max(text: str) -> int | None:
    """The hard limit in /proc/PID/limits."""
    line = next(line for line in text.splitlines() if line.startswith("Max open files"))
    hard = line.split()[4]
    return None if hard == "unlimited" else int(hard)


def parse_mounts(text: str) -> Iterator[MountFact]:
    """Lines of /proc/PID/mountinfo: a number of optional fields, then a dash."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        words, (filesystem, _, of_filesystem) = before.split(" "), after.split(" ", 2)
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), words[4])
        options = (frozenset(each.split(",")) for each in (words[5], of_filesystem))
        yield MountFact(int(words[0]), point, filesystem, *options)


def parse_links(text: str) -> tuple[str, ...]:
    """/proc/PID/net/dev, after two lines of headings."""
    return tuple(line.partition(":")[0].strip() for line in text.splitlines()[2:])


def parse_listening(text: str) -> Iterator[tuple[str, int]]:
    """/proc/PID/net/tcp and tcp6: addresses are words of this machine's byte order, in hexadecimal."""
    for line in text.splitlines()[1:]:
        words = line.split()
        if words[3] == _LISTEN:
            digits, _, port = words[1].partition(":")
            yield _address(digits), int(port, 16)


def _address(digits: str) -> str:
    packed = b"".join(
        int(digits[at : at + 8], 16).to_bytes(4, "little" if _IS_LITTLE else "big") for at in range(0, len(digits), 8)
    )
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


_IS_LITTLE = socket.htons(1) != 1
