"""Control groups of version 2 under a running site: what the kernel does with its limits, and what we read of it."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from containerlib import cgroups
from dispatcher.compute.protocol import Live
from tests.plugins.compute import Host, fetch, python, until

pytestmark = pytest.mark.system
BUSY = "threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start(); serve()"


def directory_of(host: Host, live: Live) -> Path:
    (directory,) = cgroups.find(host.settings.cgroup).group(str(host.slot(live))).directories()
    return directory


def fields(path: Path) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}


async def test_a_busy_site_gets_its_share_and_the_kernel_counts_what_it_withheld(host: Host) -> None:
    await host.app("blog", *python(BUSY), words={"cpu": "20%"})
    live = await host.wake("blog")
    await until(lambda: host.cpu_limit(live) == "20000")
    stat = directory_of(host, live) / "cpu.stat"
    before, began = fields(stat), time.monotonic()
    await asyncio.sleep(3)
    after, took_s = fields(stat), time.monotonic() - began
    used = (after["usage_usec"] - before["usage_usec"]) / 1e6 / took_s
    assert 0.1 < used < 0.3
    assert after["nr_throttled"] - before["nr_throttled"] > 10
    assert after["throttled_usec"] - before["throttled_usec"] > 1e6


async def test_processes_of_a_site_are_all_in_its_group_and_end_with_it(host: Host) -> None:
    forks = "os.fork() or (os.setsid(), os.fork() or signal.pause(), signal.pause()); serve()"
    await host.app("blog", *python(forks))
    live = await host.wake("blog")
    group = directory_of(host, live)
    await until(lambda: int((group / "pids.current").read_text()) >= 4)
    (group / "cgroup.kill").write_text("1")
    assert "killed by SIGKILL" in (await host.event("blog", "failed")).message
    await until(lambda: not group.exists(), within_s=20)
    assert (await fetch((await host.until_answer("blog")).address)).endswith(b"ok")


async def test_a_frozen_site_waits_and_goes_on_where_it_was(host: Host) -> None:
    await host.app("blog", *python("serve()"))
    live = await host.wake("blog")
    group = directory_of(host, live)
    (group / "cgroup.freeze").write_text("1")
    await until(lambda: fields(group / "cgroup.events")["frozen"] == 1)
    with pytest.raises(TimeoutError):
        await fetch(live.address, timeout_s=1)
    (group / "cgroup.freeze").write_text("0")
    assert (await fetch(live.address)).endswith(b"ok")
    assert await host.wake("blog") == live


async def test_a_frozen_site_can_be_stopped(host: Host) -> None:
    """v1 would not even hear SIGKILL."""
    await host.app("blog", *python("serve()"))
    live = await host.wake("blog")
    group = directory_of(host, live)
    (group / "cgroup.freeze").write_text("1")
    await until(lambda: fields(group / "cgroup.events")["frozen"] == 1)
    for pid in await host.processes("blog"):
        os.kill(pid, 9)
    await until(lambda: not group.exists(), within_s=20)


async def test_a_site_over_its_memory_is_killed_and_counted(host: Host) -> None:
    eats = "x = []\nwhile True: x.append(bytearray(1 << 20))"
    await host.app("blog", *python(f"print('up', flush=True); time.sleep(1)\n{eats}"), words={"memory": "48M"})
    refused = await host.refused("blog")
    assert "it used more memory than its limit 48M" in refused.message


async def test_a_lower_limit_takes_back_what_can_be_had(host: Host) -> None:
    """Pages of files that were read count as used, until somebody wants them."""
    (host.content / "big").write_bytes(bytes(48 << 20))
    reads = "f = open('/srv/big', 'rb')\nwhile f.read(1 << 20): pass\nprint('read', flush=True)\nserve()"
    await host.app("blog", *python(reads), words={"memory": "128M"})
    live = await host.wake("blog")
    await host.word("blog", "memory", "40M")
    await until(lambda: host.memory_limit(live) == str(40 << 20))
    assert await host.wake("blog") == live
