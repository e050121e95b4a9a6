"""Whom a container can talk to. Pure."""

import ipaddress
from dataclasses import dataclass

from containerlib.checks import SpecError, of_type, text, whole

BANDWIDTH_MIN = 8_000  # bits a second: a thousand bytes


@dataclass(frozen=True, slots=True)
class NetworkAccess:
    """`address` empty: the next free one. `host_services` are TCP ports of the host that may be reached, `bandwidth_bps` bits a
    second each way, None: no limit."""

    address: str = ""
    outbound: bool = True
    host_services: tuple[int, ...] = ()
    bandwidth_bps: int | None = None

    def __post_init__(self) -> None:
        if self.address:
            _address(self.address)
        of_type("network.outbound", self.outbound, bool, "True or False")
        for port in self.host_services:
            whole("network.host_services", port, 1, 65535)
        if self.bandwidth_bps is not None:
            whole("network.bandwidth", self.bandwidth_bps, BANDWIDTH_MIN, 1 << 50)


def _address(word: str) -> None:
    try:
        ipaddress.IPv4Address(text("network.address", word))
    except ipaddress.AddressValueError:
        raise SpecError("network.address", word, "is not an IPv4 address") from None
