"""Routed veths: one link and one /32 route a container, no bridge.

A bridge takes at most 1,023 ports and puts tenants on one segment, where they could spoof ARP. Here both ends know each
other's hardware address for good, so no ARP is spoken at all. Addresses are `network`'s: the first is the host's, on `lo`;
number N of the network belongs to slot N. Hardware addresses are made of them.

Everything here blocks for milliseconds (netlink waits for RCU): call it from a worker thread, never in an event loop.
"""

import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from containerlib import netlink
from containerlib.sockdiag import SocketDiag

GROUP = 0x6663  # of every container's link on this host, for rules: by its name it could be taken for somebody else's
BURST_S, QUEUE_S = (
    0.01,
    0.1,
)  # of a limited bandwidth: how much may pass at once after a pause, and how long the rest may wait
BURST_BYTES_MIN, QUEUE_BYTES_MIN = 4096, 64 << 10  # a packet fits, and a few of TCP's
SLOT_FIRST = 2  # 0 is the network's own address, 1 the host's
_LOOPBACK_INDEX = 1


@dataclass(frozen=True, slots=True)
class Addresses:
    """Which address, link name and hardware address belong to which slot. Pure."""

    network: ipaddress.IPv4Network

    @classmethod
    def parse(cls, word: str) -> "Addresses":
        network = ipaddress.IPv4Network(word)
        if network.prefixlen > 28:
            raise ValueError(f"network {word!r} has no room for containers: at most /28")
        return cls(network)

    @property
    def host(self) -> str:
        return str(self.network[1])

    @property
    def slots(self) -> range:
        return range(SLOT_FIRST, min(self.network.num_addresses - 1, 1 << 16))

    def of(self, slot: int) -> str:
        return str(self.network[slot])

    def link(self, slot: int) -> str:
        return f"fc{int(self.network[slot]):08x}"

    def slot_of_link(self, name: str) -> int | None:
        """None: not one of ours, perhaps another installation's with another network."""
        if len(name) != 10 or not name.startswith("fc"):
            return None
        try:
            address = ipaddress.IPv4Address(int(name[2:], 16))
        except ValueError:
            return None
        return int(address) - int(self.network.network_address) if address in self.network else None

    def hardware(self, number: int) -> str:
        packed = self.network[number].packed
        return ":".join(("02", "fc", *(f"{byte:02x}" for byte in packed)))


@dataclass(frozen=True, slots=True)
class Wire:
    """A container's network as the agent holds it: the host's end, and a window into the namespace."""

    slot: int
    index: int
    address: str
    diag: SocketDiag


def bucket_of(index: int, bandwidth_bps: int) -> netlink.Request:
    """Pure."""
    rate_bytes = bandwidth_bps // 8
    burst_bytes = max(BURST_BYTES_MIN, int(rate_bytes * BURST_S))
    queue_bytes = max(QUEUE_BYTES_MIN, int(rate_bytes * QUEUE_S))
    sizes = {"burst_bytes": min(burst_bytes, 1 << 30), "queue_bytes": min(queue_bytes, 1 << 30)}
    return netlink.bucket(index, rate_bytes, **sizes)


def _change_bucket(route: netlink.Route, index: int, bandwidth_bps: int | None) -> None:
    if bandwidth_bps is not None:
        route.request(bucket_of(index, bandwidth_bps))
        return
    try:
        route.request(netlink.no_bucket(index))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):  # there is none
            raise


class Network:
    """The host's side. Not safe for two threads at once."""

    def __init__(self, addresses: Addresses) -> None:
        self.addresses = addresses
        self._route = IPRoute()
        self._fast = netlink.Route()
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def set_up(self) -> None:
        """An address whose container is gone must lead nowhere: by the default route its requests would leave this host."""
        self._add(self._route.addr, index=_LOOPBACK_INDEX, address=self.addresses.host, prefixlen=32)
        self._add(self._route.route, dst=str(self.addresses.network), type="unreachable")

    def tear_down(self) -> None:
        """The host's address; links are removed one by one."""
        self._remove(self._route.route, dst=str(self.addresses.network), type="unreachable")
        self._remove(self._route.addr, index=_LOOPBACK_INDEX, address=self.addresses.host, prefixlen=32)

    def _add(self, change: Callable[..., object], **what: object) -> None:
        try:
            change("add", **what)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise

    def _remove(self, change: Callable[..., object], **what: object) -> None:
        try:
            change("del", **what)
        except NetlinkError as error:
            if error.code not in (errno.EADDRNOTAVAIL, errno.ESRCH):  # it was not there
                raise

    def connect(self, slot: int, pid: int) -> Wire:
        """Wires the network namespace of process `pid`; half-made links go again if anything fails, with an OSError."""
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        name = self.addresses.link(slot)
        try:
            self._make_pair(name, slot, namespace)
            with ExitStack() as half_made:
                with self._inside(namespace):
                    diag = SocketDiag()
                    half_made.callback(diag.close)
                    inner = half_made.enter_context(netlink.Route())
                    index = socket.if_nametoindex("eth0")
                self._configure_inside(inner, index, slot)
                wire = Wire(slot, self._configure_host(name, slot), self.addresses.of(slot), diag)
                half_made.pop_all()
            inner.close()
            return wire
        except BaseException as error:
            self.disconnect_name(name)
            if isinstance(error, OSError):
                raise OSError(error.errno, f"link {name}: {error}") from error
            raise
        finally:
            os.close(namespace)

    def window(self, slot: int, pid: int) -> Wire:
        """Of a container that is wired already: a fresh window into its namespace (after the agent's own restart)."""
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with self._inside(namespace):
                diag = SocketDiag()
        finally:
            os.close(namespace)
        try:
            index = socket.if_nametoindex(self.addresses.link(slot))
        except OSError:
            index = 0
        return Wire(slot, index, self.addresses.of(slot), diag)

    def has_link(self, wire: Wire) -> bool:
        """Until the kernel has taken it along with the namespace. Quick enough for an event loop."""
        try:
            return socket.if_nametoindex(self.addresses.link(wire.slot)) == wire.index
        except OSError:
            return False

    def disconnect(self, wire: Wire) -> None:
        """By index: a look-up by name would walk all interfaces. The namespace's end, if it ended first, took this one along."""
        wire.diag.close()
        self._delete(wire.index)

    def disconnect_name(self, name: str) -> None:
        with suppress(OSError):  # there is none
            self._delete(socket.if_nametoindex(name))

    def shape(self, wire: Wire, pid: int, bandwidth_bps: int | None) -> None:
        """Holds both ends to so many bits a second, each way; None: no limit, of one that has none, too. From inside it cannot be
        lifted: the namespace is the host's."""
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with self._inside(namespace):
                index = socket.if_nametoindex("eth0")
                inner = netlink.Route()
        finally:
            os.close(namespace)
        with inner:
            _change_bucket(inner, index, bandwidth_bps)
        _change_bucket(self._fast, wire.index, bandwidth_bps)

    def slots_in_use(self) -> set[int]:
        names = (link.get("ifname") for link in self._route.get_links())
        return {slot for name in names if name and (slot := self.addresses.slot_of_link(name)) is not None}

    def close(self) -> None:
        self._route.close()
        self._fast.close()
        os.close(self._home)

    def _delete(self, index: int) -> None:
        if index == 0:
            return
        try:
            self._fast.request(netlink.delete_link(index))
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.ENOENT):
                raise

    @contextmanager
    def _inside(self, namespace: int) -> Iterator[None]:
        """Of this thread only: sockets made meanwhile stay in that namespace."""
        os.setns(namespace, os.CLONE_NEWNET)
        try:
            yield
        finally:
            os.setns(self._home, os.CLONE_NEWNET)

    def _make_pair(self, name: str, slot: int, namespace: int) -> None:
        self._fast.request(
            netlink.veth(
                name,
                self.addresses.hardware(1),
                peer="eth0",
                peer_hardware=self.addresses.hardware(slot),
                namespace=namespace,
                group=GROUP,
            )
        )

    def _configure_inside(self, inner: netlink.Route, index: int, slot: int) -> None:
        host = self.addresses.host
        inner.request(
            netlink.link_up(_LOOPBACK_INDEX),
            netlink.link_up(index),
            netlink.address(index, self.addresses.of(slot), 32),
            netlink.neighbour(index, host, self.addresses.hardware(1)),
            netlink.route_to(index, host),
            netlink.default_route(index, host),
        )

    def _configure_host(self, name: str, slot: int) -> int:
        index = socket.if_nametoindex(name)
        address = self.addresses.of(slot)
        self._fast.request(
            netlink.neighbour(index, address, self.addresses.hardware(slot)),
            netlink.route_to(index, address, source=self.addresses.host),
        )
        return index
