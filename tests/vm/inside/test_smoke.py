"""The shortest way through everything on this kernel: what each run of the CI does."""

from pathlib import Path

import pytest

from containerlib import cgroups
from tests.plugins.compute import Host, fetch, until

pytestmark = pytest.mark.system


async def test_a_site_wakes_within_its_limits_and_stops_without_a_trace(host: Host) -> None:
    (host.content / "index.html").write_text("hello")
    await host.app("blog", words={"cpu": "30%", "memory": "64M"}, pids=50)
    live = await host.wake("blog")
    assert (await fetch(live.address)).endswith(b"hello")

    tree = cgroups.find(host.settings.cgroup)
    assert tree.version == 2
    group = tree.group(str(host.slot(live)))
    (directory,) = group.directories()
    assert await host.processes("blog") == group.processes() != []
    await until(lambda: host.cpu_limit(live) == "30000")
    limits = {
        name: (directory / name).read_text().strip()
        for name in ("cpu.max", "memory.max", "memory.swap.max", "pids.max")
    }
    assert limits == {
        "cpu.max": "30000 100000", "memory.max": str(64 << 20), "memory.swap.max": "0", "pids.max": "50",
    }  # fmt: skip

    link = Path("/sys/class/net", next(name for name in links() if name.endswith(f"{host.slot(live):02x}")))
    slot = Path(host.settings.run_dir, "slots", str(host.slot(live)))
    assert (await (await host.proxy()).stop("blog")).lives == ("blog/1.1",)
    await until(lambda: not any(path.exists() for path in (directory, link, slot)), within_s=20)


def links() -> list[str]:
    return [path.name for path in Path("/sys/class/net").glob("fc*")]
