"""What an app's spec says of its network and its disks, as containerlib has it. Pure."""

from containerlib.cgroups import IoLimits
from containerlib.firewall import NetworkPolicy
from dispatcher.domain import AppSpec


def network_policy(spec: AppSpec) -> NetworkPolicy:
    return NetworkPolicy(spec.outbound, spec.host_ports, spec.bandwidth_bps)


def io_limits(spec: AppSpec) -> IoLimits:
    return IoLimits(spec.io.read_bps, spec.io.write_bps, spec.io.read_iops, spec.io.write_iops)
