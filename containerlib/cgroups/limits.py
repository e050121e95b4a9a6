"""Limits -> contents of cgroup files, for both versions. Pure."""

from dataclasses import dataclass

# The kernel's own default. A shorter period would spread the pauses of a limited container more evenly and cost more switches.
CPU_PERIOD_US = 100_000
CPU_QUOTA_US_MIN = 1_000  # the kernel refuses less


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no limit, which is written too, since a limit that was lifted must go."""

    cpu: float | None = None  # cores
    memory_bytes: int | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True)
class IoLimits:
    """Of one disk: bytes and operations a second. None: no limit, as above."""

    read_bps: int | None = None
    write_bps: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None


@dataclass(frozen=True, slots=True)
class FileContent:
    controller: str  # a v1 hierarchy; "" in the one tree of v2
    name: str
    value: str
    required: bool = True  # False: a kernel built without it (swap accounting) is no error


def _quota_us(cpu: float) -> int:
    return max(CPU_QUOTA_US_MIN, round(cpu * CPU_PERIOD_US))


def v1_cpu(cpu: float | None) -> tuple[FileContent, ...]:
    return (
        FileContent("cpu", "cpu.cfs_period_us", str(CPU_PERIOD_US)),
        FileContent("cpu", "cpu.cfs_quota_us", "-1" if cpu is None else str(_quota_us(cpu))),
    )


def v1_memory(amount_bytes: int | None) -> tuple[FileContent, ...]:
    """memsw may never be below memory, so raising needs the one order and lowering the other: lift memsw, set memory, set memsw."""
    value = "-1" if amount_bytes is None else str(amount_bytes)
    return (
        FileContent("memory", "memory.memsw.limit_in_bytes", "-1", required=False),
        FileContent("memory", "memory.limit_in_bytes", value),
        FileContent("memory", "memory.memsw.limit_in_bytes", value, required=False),
    )


def v1_pids(count: int | None) -> tuple[FileContent, ...]:
    return (FileContent("pids", "pids.max", "max" if count is None else str(count)),)


def v2_cpu(cpu: float | None) -> tuple[FileContent, ...]:
    quota = "max" if cpu is None else str(_quota_us(cpu))
    return (FileContent("", "cpu.max", f"{quota} {CPU_PERIOD_US}"),)


def v2_memory(amount_bytes: int | None) -> tuple[FileContent, ...]:
    value = "max" if amount_bytes is None else str(amount_bytes)
    # Swap on top of the limit would let a tenant push the host into swapping.
    swap = "max" if amount_bytes is None else "0"
    return (FileContent("", "memory.max", value), FileContent("", "memory.swap.max", swap, required=False))


def v2_pids(count: int | None) -> tuple[FileContent, ...]:
    return (FileContent("", "pids.max", "max" if count is None else str(count)),)


def v1_io(device: str, io: IoLimits) -> tuple[FileContent, ...]:
    """`device`: MAJOR:MINOR of a whole disk."""
    values = {
        "read_bps": io.read_bps,
        "write_bps": io.write_bps,
        "read_iops": io.read_iops,
        "write_iops": io.write_iops,
    }
    return tuple(
        FileContent("blkio", f"blkio.throttle.{name}_device", f"{device} {value or 0}")
        for name, value in values.items()
    )


def v2_io(device: str, io: IoLimits) -> tuple[FileContent, ...]:
    values = {"rbps": io.read_bps, "wbps": io.write_bps, "riops": io.read_iops, "wiops": io.write_iops}
    words = (f"{name}={'max' if value is None else value}" for name, value in values.items())
    return (FileContent("", "io.max", f"{device} {' '.join(words)}"),)


def v1_freezer(frozen: bool) -> FileContent:
    return FileContent("freezer", "freezer.state", "FROZEN" if frozen else "THAWED")


def v2_freezer(frozen: bool) -> FileContent:
    return FileContent("", "cgroup.freeze", "1" if frozen else "0")


def contents(version: int, limits: Limits) -> tuple[FileContent, ...]:
    """All of them, in the order in which they are written."""
    if version == 1:
        return (*v1_cpu(limits.cpu), *v1_memory(limits.memory_bytes), *v1_pids(limits.pids))
    return (*v2_cpu(limits.cpu), *v2_memory(limits.memory_bytes), *v2_pids(limits.pids))
