"""What an app's spec says of its network, as containerlib has it. Pure."""

from containerlib.firewall import NetworkPolicy
from dispatcher.domain import AppSpec


def network_policy(spec: AppSpec) -> NetworkPolicy:
    return NetworkPolicy(spec.outbound, spec.host_ports, spec.bandwidth_bps)
