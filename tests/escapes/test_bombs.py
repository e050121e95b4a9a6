"""Programs that take all there is: of processes, memory, disk, inodes, descriptors. The limit holds each, and the site next door
answers meanwhile; with that one limit raised it gets what it wants, which is little more, for the host is not to suffer."""

import asyncio
import statistics
import time
from typing import Any

import pytest

from containerlib import plan
from tests.escapes.conftest import HostWithout, outcomes, start_neighbour
from tests.plugins.compute import fetch

pytestmark = pytest.mark.system

MB = plan.ROOT_BYTES >> 20
LIMITS: dict[str, Any] = {"pids": 64, "words": {"memory": "1G"}}


@pytest.mark.parametrize(
    ("bomb", "times", "wanted", "limited", "how", "raised", "removed"),
    [
        ("fork_bomb", 20, {"processes": 80}, {}, "held: Resource temporarily unavailable", {"pids": 128}, ()),
        (
            "memory_bomb",
            10,
            {"megabytes": 96},
            {"words": {"memory": "64M"}},
            "died: 9",
            {"words": {"memory": "256M"}},
            (),
        ),
        ("disk_filler", 3, {"megabytes": MB + 16}, {}, "held: No space left on device", {}, ("sizes",)),
        ("inode_filler", 3, {"files": plan.ROOT_INODES + 1}, {}, "held: No space left on device", {}, ("sizes",)),
        (
            "descriptors",
            200,
            {"descriptors": plan.RLIMITS[0].soft},
            {},
            "held: Too many open files",
            {},
            ("file limit",),
        ),
    ],
)
async def test_bomb(
    host_without: HostWithout,
    etcd: Any,
    bomb: str,
    times: int,
    wanted: dict[str, int],
    limited: dict[str, Any],
    how: str,
    raised: dict[str, Any],
    removed: tuple[str, ...],
) -> None:
    async with host_without(*removed) as host:
        assert (await outcomes(host, [bomb], wanted, **{**LIMITS, **raised}))[bomb].startswith("escaped: ")
    etcd.ctl("del", "--prefix", "/")
    async with host_without() as host:
        address = (await start_neighbour(host)).address
        before = [await latency_s(address) for _ in range(50)]
        bombing = asyncio.get_running_loop().create_task(
            outcomes(host, [bomb] * times, wanted, **{**LIMITS, **limited})
        )
        meanwhile = []
        while not bombing.done():
            meanwhile.append(await latency_s(address))
        assert (await bombing)[bomb] == how
        assert len(meanwhile) >= 5
        assert statistics.median(meanwhile) <= 2 * statistics.median(before) + 0.02


async def latency_s(address: str) -> float:
    began = time.monotonic()
    assert (await fetch(address)).endswith(b"ok")
    took_s = time.monotonic() - began
    await asyncio.sleep(0.002)
    return took_s
