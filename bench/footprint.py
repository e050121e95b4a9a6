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


def resident_kb(pid: int) -> int:
    return _meminfo_kb(Path(f"/proc/{pid}/status").read_text(), "VmRSS")


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
