import os
from pathlib import Path

import pytest

from bench import footprint
from containerlib import cgroups
from dispatcher.settings import Settings
from tests.plugins.compute import free_network


def test_figures_are_read_by_name() -> None:
    assert 0 < footprint.slab_kb() < footprint.available_kb()
    assert footprint.counters_kb().keys() == {"MemAvailable", "vmalloc", *footprint.COUNTERS}
    assert footprint.resident_kb(os.getpid()) > 1000
    with pytest.raises(StopIteration):
        footprint._meminfo_kb("MemTotal: 5 kB\n", "MemAvailable")


@pytest.mark.system
def test_what_is_left_is_named(tmp_path: Path) -> None:
    settings = Settings(run_dir=str(tmp_path), network=free_network(), cgroup=f"fctest-{os.getpid()}")
    assert footprint.remains(settings) == []
    tree = cgroups.find(settings.cgroup)
    group = tree.create("7")
    (tmp_path / "slots/7").mkdir(parents=True)
    assert footprint.remains(settings) == ["control group 7", f"directory {tmp_path}/slots/7"]
    group.remove()
    tree.remove()
