"""What a spec says of the network."""

from containerlib.firewall import USUAL, NetworkPolicy
from dispatcher.compute.policies import network_policy
from dispatcher.domain import AppSpec


def test_usual_unless_it_says_otherwise() -> None:
    assert network_policy(AppSpec(command=("php",))) == USUAL
    spec = AppSpec(command=("php",), outbound=False, host_ports=(3306,), bandwidth_bps=8_000_000)
    assert network_policy(spec) == NetworkPolicy(False, (3306,), 8_000_000)
