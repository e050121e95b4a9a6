"""The nouns that have words of their own."""

from collections.abc import Callable
from typing import Any

import pytest

from containerlib.dsl import DefinitionError
from containerlib.spec import Cgroup, ContainerSpec, Image, Io, NetworkAccess, Setting, Usr

Said = Callable[..., ContainerSpec]
RUNS = 'c.command("x")'


@pytest.mark.parametrize(
    ("line", "cgroup"),
    [
        ('c.cgroup.cpu = "30%"', Cgroup(cpu=0.3)),
        ("c.cgroup.cpu = 1.5", Cgroup(cpu=1.5)),
        ('c.cgroup.memory = "256M"', Cgroup(memory_bytes=256 << 20)),
        ('c.cgroup.memory = "256M"; c.cgroup.memory = None', Cgroup()),
        ("c.cgroup.pids = 100", Cgroup(pids=100)),
        (
            'c.cgroup.io("/dev/sda", read_bps="10M", write_iops=50)',
            Cgroup(io=(Io("/dev/sda", read_bps=10 << 20, write_iops=50),)),
        ),
        (
            'c.cgroup.v1["cpu.shares"] = 512; c.cgroup.v2["cpu.weight"] = "50"',
            Cgroup(settings=(Setting(1, "cpu.shares", "512"), Setting(2, "cpu.weight", "50"))),
        ),
    ],
)
def test_cgroup(said: Said, line: str, cgroup: Cgroup) -> None:
    assert said(RUNS, line).cgroup == cgroup


@pytest.mark.parametrize(
    ("line", "network"),
    [
        ('c.network.address = "100.96.0.9"', NetworkAccess(address="100.96.0.9")),
        ("c.network.outbound = False", NetworkAccess(outbound=False)),
        ('c.network.bandwidth = "10Mbit"', NetworkAccess(bandwidth_bps=10_000_000)),
        (
            "c.network.allow_host_service(3306); c.network.allow_host_service(3306, 25)",
            NetworkAccess(host_services=(3306, 25)),
        ),
    ],
)
def test_network(said: Said, line: str, network: NetworkAccess) -> None:
    assert said(RUNS, line).network == network


def test_capabilities_are_none_and_can_be_dropped_again(said: Said) -> None:
    assert said(RUNS).security.capabilities == ()
    allowed = said(RUNS, 'c.capabilities.allow("CAP_KILL", "chown")', 'c.capabilities.drop("kill")')
    assert allowed.security.capabilities == ("chown",)


def test_root(said: Said) -> None:
    assert said(RUNS).root == Usr()
    assert said(RUNS, 'c.bootstrap.image("blog@7")').root == Image("blog@7")
    assert said(RUNS, 'c.bootstrap.image("blog")', "c.bootstrap.usr()").root == Usr()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('c.cgroup.memory = "lots"', "cgroup.memory: 'lots' is not an amount of memory such as 256M"),
        ('c.cgroup.memory = "1M"', "cgroup.memory: '1M' is not an amount of memory"),
        ("c.cgroup.memory = True", "cgroup.memory: True is neither a word nor a number"),
        ("c.cgroup.cpu = 0", "cgroup.cpu: 0 is not from"),
        ("c.cgroup.pids = 1.5", "cgroup.pids: 1.5 is not a whole number"),
        ('c.cgroup.memry = "1M"', "'memry' is unknown; did you mean 'memory'?"),
        ("print(c.cgroup.memry)", "'memry' is unknown; did you mean 'memory'?"),
        ('c.cgroup.io = "8:0"', "'io' cannot be set"),
        ('c.cgroup = "x"', "'cgroup' cannot be set"),
        ('c.cgroup.io("/dev/sda", read_bps="fast")', "cgroup.io read_bps: 'fast' is not a number of bytes"),
        ('c.cgroup.v1["cgroup.procs"] = 1', "cgroup.v1: 'cgroup.procs' is not a setting"),
        ('c.network.bandwidth = "10M"', "network.bandwidth: '10M' is not a rate such as 10Mbit"),
        ("c.network.allow_host_service(0)", "network.host_services: 0 is not from 1"),
        ('c.capabilities.allow("all")', "capabilities: 'all' is none of"),
        ('c.bootstrap.image("../x")', "bootstrap.image: '../x' is not the name of an image"),
        ('c.env.update({"A=": 1})', "env: 'A=' is not a name"),
        ('c.env["A"] = None', "env A: None is not a text"),
    ],
)
def test_an_error_has_the_line_that_made_it(said: Said, line: str, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        said(RUNS, line)
    error: Any = caught.value
    assert error.where.endswith("site.py:5")
    assert message in error.message
