"""What an installation takes of this machine, and what it left behind."""

from collections.abc import Iterator
from pathlib import Path

from containerlib import cgroups
from containerlib.network import Addresses
from dispatcher.settings import Settings


def available_kb() -> int:
    return _meminfo_kb(Path("/proc/meminfo").read_text(), "MemAvailable")


def slab_kb() -> int:
    """Of the kernel's own objects; what it could give back on demand is not in it."""
    return _meminfo_kb(Path("/proc/meminfo").read_text(), "SUnreclaim")


# What the kernel counts of its own memory that it cannot have back, each page under one of these names. VmallocUsed is apart: it
# counts kernel stacks once more. Processes' memory (AnonPages) is not here: others' takes and gives more than that of containers.
COUNTERS = ("SUnreclaim", "KernelStack", "PageTables", "Shmem", "Percpu")


def counters_kb() -> dict[str, int]:
    """Of the machine, with MemAvailable beside; `vmalloc`: what the kernel maps for itself, its stacks left out."""
    text = Path("/proc/meminfo").read_text()
    found = {name: _meminfo_kb(text, name) for name in ("MemAvailable", *COUNTERS)}
    return {**found, "vmalloc": _meminfo_kb(text, "VmallocUsed") - found["KernelStack"]}


def resident_kb(pid: int) -> int:
    return _meminfo_kb(Path(f"/proc/{pid}/status").read_text(), "VmRSS")


def anonymous_kb(pid: int) -> int:
    return _meminfo_kb(Path(f"/proc/{pid}/status").read_text(), "RssAnon")


def group_anonymous_kb(group: cgroups.Group) -> float:
    """Of all its processes."""
    files = (directory / "memory.stat" for directory in group.directories())
    text = next(file.read_text() for file in files if file.exists())
    fields = dict(line.split() for line in text.splitlines())
    return int(fields["rss" if group.tree.version == 1 else "anon"]) / 1024


def _meminfo_kb(text: str, name: str) -> int:
    """Pure: of the lines `Name:   123 kB`."""
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:"))


def remains(settings: Settings) -> list[str]:
    """Everything of this installation's containers, its reserve included, that the kernel still holds."""
    return sorted({*_links(settings), *_groups(settings), *_slots(settings), *_mounts(settings)})


def _links(settings: Settings) -> Iterator[str]:
    addresses = Addresses.parse(settings.network)
    for path in Path("/sys/class/net").iterdir():
        if addresses.slot_of_link(path.name) is not None:
            yield f"link {path.name}"


def _groups(settings: Settings) -> Iterator[str]:
    tree = cgroups.find(settings.cgroup)
    for name in tree.names():
        yield f"control group {name}"
        for pid in tree.group(name).processes():
            yield f"process {pid} in control group {name}"


def _slots(settings: Settings) -> Iterator[str]:
    slots = Path(settings.run_dir, "slots")
    for path in slots.iterdir() if slots.is_dir() else ():
        yield f"directory {path}"


def _mounts(settings: Settings) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if f" {settings.run_dir}" in line:
            yield f"mount {line.split()[4]}"
