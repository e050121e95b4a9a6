import pytest

from dispatcher.coreapi.placement import place
from dispatcher.domain import ComputeRow

GIB = 1 << 30


def compute(*, cpu: float = 0.0, memory: int = 0, cores: float = 4.0) -> ComputeRow:
    return ComputeRow(":1", cores=cores, memory_bytes=8 * GIB, cpu_committed=cpu, memory_committed_bytes=memory)


@pytest.mark.parametrize(
    ("computes", "count", "answer"),
    [
        ({}, 2, ["here", "here"]),
        ({"a": compute()}, 2, ["a", "a"]),
        ({"a": compute(cpu=3), "b": compute(cpu=1)}, 1, ["b"]),
        ({"a": compute(memory=6 * GIB), "b": compute(cpu=1)}, 1, ["b"]),
        ({"a": compute(), "b": compute()}, 4, ["a", "b", "a", "b"]),
        ({"a": compute(cores=8), "b": compute(cores=4)}, 3, ["a", "b", "a"]),
        ({"a": compute(cpu=9), "b": compute(cpu=8)}, 1, ["b"]),
        ({"a": compute(cores=0), "b": compute(cpu=1)}, 1, ["b"]),
        ({"a": compute()}, 0, []),
    ],
)
def test_place(computes: dict[str, ComputeRow], count: int, answer: list[str]) -> None:
    assert place(computes, count, cpu=0.5, memory_bytes=GIB, otherwise="here") == answer


def test_without_limits_containers_are_spread_by_number() -> None:
    assert place({"a": compute(), "b": compute()}, 3, cpu=0.0, memory_bytes=0, otherwise="here") == ["a", "b", "a"]
