"""On which Compute a new container is registered. Pure."""

from collections.abc import Mapping

from dispatcher.domain import ComputeRow


def place(computes: Mapping[str, ComputeRow], count: int, cpu: float, memory_bytes: int, otherwise: str) -> list[str]:
    """A Compute for each of `count` containers: the one with most room each time, counting those placed before it.

    Room is what is left of the scarcer of CPU and memory, as a share of the whole; it may be negative, for limits are not
    reservations. `otherwise` is the answer while no Compute is registered.
    """
    placed: dict[str, int] = dict.fromkeys(computes, 0) or {otherwise: 0}
    answer = []
    for _ in range(count):
        name = min(
            placed, key=lambda name: (-_room(computes, name, placed[name], cpu, memory_bytes), placed[name], name)
        )
        placed[name] += 1
        answer.append(name)
    return answer


def _room(computes: Mapping[str, ComputeRow], name: str, more: int, cpu: float, memory_bytes: int) -> float:
    row = computes.get(name)
    if row is None or not row.cores or not row.memory_bytes:
        return 0.0
    cpu_left = 1 - (row.cpu_committed + more * cpu) / row.cores
    memory_left = 1 - (row.memory_committed_bytes + more * memory_bytes) / row.memory_bytes
    return min(cpu_left, memory_left)
