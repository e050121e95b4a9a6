"""What a spec says of the network and the disks."""

from containerlib.cgroups import IoLimits
from containerlib.firewall import USUAL, NetworkPolicy
from dispatcher.compute.policies import io_limits, network_policy
from dispatcher.domain import AppSpec, Io


def test_usual_unless_it_says_otherwise() -> None:
    assert network_policy(AppSpec(command=("php",))) == USUAL
    spec = AppSpec(command=("php",), outbound=False, host_ports=(3306,), bandwidth_bps=8_000_000)
    assert network_policy(spec) == NetworkPolicy(False, (3306,), 8_000_000)


def test_no_limit_of_io_unless_it_says_so() -> None:
    assert io_limits(AppSpec(command=("php",))) == IoLimits()
    assert io_limits(AppSpec(command=("php",), io=Io(1, 2, 3, 4))) == IoLimits(1, 2, 3, 4)
