"""Stopping a life in its tracks, once nobody sends it anything: the kernel's part of it, which takes its time.

Cancelled when the life is wanted or has to go: whoever cancels thaws it.
"""

import asyncio
import time

from containerlib.cgroups import Group
from dispatcher.compute.life import Life, Listener

FREEZE_S = 2.0  # a process that waits for a disk or a file server stops only after that
LOOK_EVERY_S = 0.001
# Of memory that is taken back at once: 1 ms of this loop's time. Where the host swaps to a slow disk it takes longer, and is left.
SLICE_BYTES, SLICE_S_MAX = 4 << 20, 0.02
MIB = 1 << 20


async def freeze(life: Life, listener: Listener) -> None:
    assert life.handle is not None
    group = life.handle.group
    try:
        group.freeze()
        async with asyncio.timeout(FREEZE_S):
            while not group.is_frozen():  # noqa: ASYNC110 - cgroup v1 has no event for it
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        listener.not_frozen(life, f"not all of its processes stopped within {FREEZE_S:g} s")
        return
    except OSError as error:
        listener.not_frozen(life, str(error))
        return
    kept(life)
    try:
        freed_bytes = await _reclaim(group)
    except OSError as error:
        listener.not_frozen(life, f"its memory could not be taken back: {error}")
        return
    kept(life)
    message = f"it keeps {life.kept_bytes / MIB:.1f} MiB of memory; {freed_bytes / MIB:.1f} MiB were taken back"
    if life.frozen_for:
        message += f"; {life.frozen_for}"
    listener.tell(life, "frozen", message)


def kept(life: Life) -> None:
    """Notes what it costs from now on."""
    assert life.handle is not None
    life.is_frozen = True
    life.kept_bytes = life.handle.group.memory_bytes()


async def _reclaim(group: Group) -> int:
    """In slices: who wakes it meanwhile waits for one at most. Returns how many bytes the kernel took."""
    total = 0
    while True:
        began = time.perf_counter()
        freed_bytes = group.reclaim(SLICE_BYTES)
        total += freed_bytes
        if freed_bytes < SLICE_BYTES // 4 or time.perf_counter() - began > SLICE_S_MAX:
            return total
        await asyncio.sleep(LOOK_EVERY_S)
