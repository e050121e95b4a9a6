"""Who may talk to whom: nftables rules for all containers of one network at once, and two sets for those that differ.

A container may not reach another one, nor this host but for its name servers and the ports it was granted, nor link-local
addresses (where clouds keep their secrets), nor send from an address that is not its own. Where this host forwards
(net.ipv4.ip_forward), it may reach the rest of the world, unless it was denied that.

The rules are set once, by nft, whose language people read; what changes with a container are elements of sets, over netlink. One
that wants no more than the usual is in no set: nothing is done while somebody waits for it.
"""

import ipaddress
import shutil
import socket
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.nftables.main import NFTables, NFTSet, NFTSetElem

from containerlib.network import GROUP

SERVICES, OFFLINE = "services", "offline"
_NFPROTO_INET = 1
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    outbound: bool = True
    host_ports: tuple[int, ...] = ()  # TCP, on any address of this host
    bandwidth_bps: int | None = None  # bits a second each way, which its link is held to (network.py); None: no limit


USUAL = NetworkPolicy()


def table_name(network: ipaddress.IPv4Network) -> str:
    """Several installations on a host have several networks."""
    return f"fastcontainer_{int(network.network_address):08x}"


def ruleset(network: ipaddress.IPv4Network, nameservers: Iterable[str], *, forwards: bool) -> str:
    """Pure. Set anew it keeps the sets' elements, so that containers of a former agent notice nothing.

    Packets between host and containers are told apart by their flags, not by connection tracking: that would cost each warm request
    some microseconds. `forwards`: translate addresses of what goes out; that does track connections, but not those with the host.
    """
    table, host = table_name(network), network[1]
    servers = sorted({server for server in nameservers if ipaddress.ip_address(server).version == 4})
    dns = f"ip daddr {{ {', '.join(servers)} }} meta l4proto {{ tcp, udp }} th dport 53 accept" if servers else ""
    return f"""
add table inet {table}
flush table inet {table}
table inet {table} {{
    set {SERVICES} {{ type ipv4_addr . inet_service; }}
    set {OFFLINE} {{ type ipv4_addr; }}
    chain arriving {{
        type filter hook prerouting priority raw;
        iifgroup {GROUP} meta nfproto ipv6 drop
        iifgroup {GROUP} fib saddr . iif oif missing drop
        iifgroup {GROUP} ip daddr {host} notrack
    }}
    chain leaving {{
        type filter hook output priority raw;
        ip daddr {network} notrack
    }}
    chain input {{
        type filter hook input priority filter;
        iifgroup {GROUP} ip saddr {network} jump to_host
    }}
    chain to_host {{
        ip saddr . tcp dport @{SERVICES} accept
        {dns}
        tcp flags & (syn | ack) == syn reject with tcp reset
        meta l4proto tcp accept
        icmp type {{ echo-reply, destination-unreachable, time-exceeded }} accept
        drop
    }}
    chain forward {{
        type filter hook forward priority filter;
        iifgroup {GROUP} ip saddr {network} jump to_others
    }}
    chain to_others {{
        oifgroup {GROUP} reject with icmp admin-prohibited
        ip daddr 169.254.0.0/16 reject with icmp admin-prohibited
        ip saddr @{OFFLINE} reject with icmp admin-prohibited
    }}
    {_translation(network) if forwards else ""}
}}
"""


def _translation(network: ipaddress.IPv4Network) -> str:
    rule = f"ip saddr {network} oifgroup != {GROUP} masquerade"
    return f"chain translated {{ type nat hook postrouting priority srcnat; {rule}; }}"


def elements(address: str, policy: NetworkPolicy) -> dict[str, list[bytes]]:
    """Pure: set -> keys, as the kernel has them: each part filled up to four bytes."""
    packed = socket.inet_aton(address)
    found = {}
    if policy.host_ports:
        found[SERVICES] = [packed + port.to_bytes(2, "big") + bytes(2) for port in policy.host_ports]
    if not policy.outbound:
        found[OFFLINE] = [packed]
    return found


class Firewall:
    """Blocks for up to a millisecond: call it from a worker thread."""

    def __init__(self, network: ipaddress.IPv4Network) -> None:
        self._network = network
        self._table = table_name(network)
        self._netlink = NFTables(nfgen_family=_NFPROTO_INET)

    def set_up(self, nameservers: Iterable[str]) -> None:
        """Raises OSError where nft is missing, or the kernel refuses."""
        forwards = _FORWARDING.read_text().strip() == "1"
        run_nft(ruleset(self._network, nameservers, forwards=forwards))

    def tear_down(self) -> None:
        run_nft(f"add table inet {self._table}\ndelete table inet {self._table}\n")

    def change(self, address: str, before: NetworkPolicy, after: NetworkPolicy) -> None:
        """What is in both is left alone. Raises OSError."""
        old, new = elements(address, before), elements(address, after)
        for name in (SERVICES, OFFLINE):
            had, has = old.get(name, []), new.get(name, [])
            for verb, keys in (
                ("add", [key for key in has if key not in had]),
                ("del", [key for key in had if key not in has]),
            ):
                if keys:
                    self._change(verb, name, keys)

    def keep_only(self, policies: Mapping[str, NetworkPolicy]) -> None:
        """By address. In one transaction: nobody is without what he has for a moment."""
        lines = [f"flush set inet {self._table} {name}" for name in (SERVICES, OFFLINE)]
        for address, policy in policies.items():
            lines += [
                f"add element inet {self._table} {SERVICES} {{ {address} . {port} }}" for port in policy.host_ports
            ]
            if not policy.outbound:
                lines.append(f"add element inet {self._table} {OFFLINE} {{ {address} }}")
        run_nft("\n".join(lines) + "\n")

    def close(self) -> None:
        self._netlink.close()

    def _change(self, verb: str, name: str, keys: list[bytes]) -> None:
        try:
            self._netlink.set_elems(
                verb, set=NFTSet(self._table, name), elements=[NFTSetElem(value=key) for key in keys]
            )
        except NetlinkError as error:
            raise OSError(error.code, f"nftables set {self._table} {name}: {error}") from error


def run_nft(text: str) -> None:
    """In one transaction. Raises OSError with what nft says."""
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise FileNotFoundError("no program nft: containers would reach each other and this host; apt install nftables")
    done = subprocess.run([program, "-f", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"nft: {done.stderr.strip()[:500]}; it was told: {text.strip()[:200]}")
