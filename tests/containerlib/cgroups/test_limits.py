"""Limits as file contents, for both versions."""

import pytest

from containerlib.cgroups import limits
from containerlib.cgroups.limits import FileContent


def words(contents: tuple[FileContent, ...]) -> list[tuple[str, str]]:
    return [(content.name, content.value) for content in contents]


@pytest.mark.parametrize(
    ("cpu", "v1_quota", "v2_max"),
    [
        (None, "-1", "max 100000"),
        (0.3, "30000", "30000 100000"),
        (1.0, "100000", "100000 100000"),
        (2.5, "250000", "250000 100000"),
        (0.0001, "1000", "1000 100000"),  # the kernel refuses less than a millisecond
    ],
)
def test_cpu(cpu: float | None, v1_quota: str, v2_max: str) -> None:
    assert words(limits.v1_cpu(cpu)) == [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", v1_quota)]
    assert words(limits.v2_cpu(cpu)) == [("cpu.max", v2_max)]


@pytest.mark.parametrize(
    ("memory_bytes", "v1_value", "v2_max", "v2_swap"),
    [(None, "-1", "max", "max"), (1 << 28, "268435456", "268435456", "0")],
)
def test_memory(memory_bytes: int | None, v1_value: str, v2_max: str, v2_swap: str) -> None:
    assert words(limits.v1_memory(memory_bytes)) == [
        ("memory.memsw.limit_in_bytes", "-1"),  # lifted first: it may never be below the other
        ("memory.limit_in_bytes", v1_value),
        ("memory.memsw.limit_in_bytes", v1_value),
    ]
    assert words(limits.v2_memory(memory_bytes)) == [("memory.max", v2_max), ("memory.swap.max", v2_swap)]


@pytest.mark.parametrize(("pids", "value"), [(None, "max"), (100, "100")])
def test_pids(pids: int | None, value: str) -> None:
    assert words(limits.v1_pids(pids)) == words(limits.v2_pids(pids)) == [("pids.max", value)]


@pytest.mark.parametrize(
    ("io", "v1", "v2"),
    [
        (limits.IoLimits(), ["0", "0", "0", "0"], "rbps=max wbps=max riops=max wiops=max"),
        (limits.IoLimits(1, 2, 3, 4), ["1", "2", "3", "4"], "rbps=1 wbps=2 riops=3 wiops=4"),
        (limits.IoLimits(write_iops=9), ["0", "0", "0", "9"], "rbps=max wbps=max riops=max wiops=9"),
    ],
)
def test_io(io: limits.IoLimits, v1: list[str], v2: str) -> None:
    """What was lifted is written, too."""
    names = [f"blkio.throttle.{name}_device" for name in ("read_bps", "write_bps", "read_iops", "write_iops")]
    assert words(limits.v1_io("8:0", io)) == [(name, f"8:0 {value}") for name, value in zip(names, v1, strict=True)]
    assert words(limits.v2_io("8:0", io)) == [("io.max", f"8:0 {v2}")]


def test_only_swap_accounting_may_be_missing() -> None:
    contents = (
        *limits.v1_cpu(1.0), *limits.v1_memory(1), *limits.v1_pids(1),
        *limits.v2_cpu(1.0), *limits.v2_memory(1), *limits.v2_pids(1),
    )  # fmt: skip
    assert {content.name for content in contents if not content.required} == {
        "memory.memsw.limit_in_bytes",
        "memory.swap.max",
    }


@pytest.mark.parametrize(("frozen", "v1_state", "v2_freeze"), [(True, "FROZEN", "1"), (False, "THAWED", "0")])
def test_freezer(frozen: bool, v1_state: str, v2_freeze: str) -> None:
    assert limits.v1_freezer(frozen) == FileContent("freezer", "freezer.state", v1_state)
    assert limits.v2_freezer(frozen) == FileContent("", "cgroup.freeze", v2_freeze)


def test_all_contents_in_the_order_of_writing() -> None:
    everything = limits.Limits(0.3, 1 << 28, 100)
    assert [each.name for each in limits.contents(1, everything)] == [
        "cpu.cfs_period_us",
        "cpu.cfs_quota_us",
        "memory.memsw.limit_in_bytes",
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "pids.max",
    ]
    assert words(limits.contents(2, limits.Limits())) == [
        ("cpu.max", "max 100000"),
        ("memory.max", "max"),
        ("memory.swap.max", "max"),
        ("pids.max", "max"),
    ]
