"""The rules as text, and what they do to real packets between this host and namespaces whose root is hostile."""

import ipaddress
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from containerlib.firewall import USUAL, Firewall, NetworkPolicy, elements, ruleset, table_name
from containerlib.network import Addresses, Network, Wire
from containerlib.sockdiag import SocketDiag
from tests.plugins.compute import free_network

NETWORK = ipaddress.IPv4Network("10.9.0.0/24")
WORLD, GATEWAY, METADATA = "198.51.100.2", "198.51.100.1", "169.254.169.254"


def test_two_networks_have_two_tables() -> None:
    assert table_name(NETWORK) == "fastcontainer_0a090000"
    assert table_name(ipaddress.IPv4Network("10.9.1.0/24")) != table_name(NETWORK)


@pytest.mark.parametrize(
    ("nameservers", "words"),
    [
        (["192.0.2.1", "10.0.0.53"], "ip daddr { 10.0.0.53, 192.0.2.1 } meta l4proto { tcp, udp } th dport 53 accept"),
        (["192.0.2.1", "2001:db8::1"], "ip daddr { 192.0.2.1 } "),
    ],
)
def test_name_servers_may_be_asked(nameservers: list[str], words: str) -> None:
    assert words in ruleset(NETWORK, nameservers, forwards=False)


def test_without_a_name_server_nobody_is_asked() -> None:
    assert "dport 53" not in ruleset(NETWORK, [], forwards=False)


def test_connections_are_tracked_only_where_addresses_must_be_translated() -> None:
    assert "masquerade" not in ruleset(NETWORK, [], forwards=False)
    assert "ip saddr 10.9.0.0/24 oifgroup != 26211 masquerade" in ruleset(NETWORK, [], forwards=True)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (USUAL, {}),
        (NetworkPolicy(outbound=False), {"offline": [b"\x0a\x09\0\x07"]}),
        (
            NetworkPolicy(host_ports=(3306, 80)),
            {"services": [b"\x0a\x09\0\x07\x0c\xea\0\0", b"\x0a\x09\0\x07\0\x50\0\0"]},
        ),
    ],
)
def test_elements(policy: NetworkPolicy, expected: dict[str, list[bytes]]) -> None:
    assert elements("10.9.0.7", policy) == expected


class Lab:
    """This host, forwarding, and namespaces wired to it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        addresses = Addresses.parse(free_network())
        self.network = Network(addresses)
        stack.callback(self.network.close)
        self.firewall = Firewall(addresses.network)
        stack.callback(self.firewall.close)
        self.network.set_up()
        stack.callback(self.network.tear_down)
        self.firewall.set_up([])
        stack.callback(self.firewall.tear_down)
        self.host = addresses.host
        self._pids: dict[int, int] = {}

    def wire(self, slot: int) -> Wire:
        self._pids[slot] = self._namespace()
        wire = self.network.connect(slot, self._pids[slot])
        self._stack.callback(self.network.disconnect, wire)
        return wire

    def _namespace(self) -> int:
        command = ["unshare", "--net", "sh", "-c", "echo ready; exec sleep 60"]
        process = self._stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        self._stack.callback(process.kill)
        assert process.stdout is not None
        process.stdout.readline()
        return process.pid

    def world(self) -> Wire:
        """Another machine, on a link that is no container's, with two addresses."""
        diag = SocketDiag()
        self._stack.callback(diag.close)
        wire = Wire(-1, 0, WORLD, diag)
        self._pids[wire.slot] = self._namespace()
        ip("link", "add", "world0", "type", "veth", "peer", "name", "eth0", "netns", str(self._pids[wire.slot]))
        self._stack.callback(ip, "link", "del", "world0")
        ip("addr", "add", f"{GATEWAY}/24", "dev", "world0")
        ip("link", "set", "world0", "up")
        with self.inside(wire):
            ip("link", "set", "lo", "up")
            ip("link", "set", "eth0", "up")
            ip("addr", "add", f"{WORLD}/24", "dev", "eth0")
            ip("addr", "add", f"{METADATA}/32", "dev", "lo")
            ip("route", "add", "default", "via", GATEWAY)
        ip("route", "add", METADATA, "via", WORLD)
        return wire

    @contextmanager
    def inside(self, wire: Wire) -> Iterator[None]:
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self._pids[wire.slot]}/ns/net", os.O_RDONLY)
        os.setns(there, os.CLONE_NEWNET)
        try:
            yield
        finally:
            os.setns(here, os.CLONE_NEWNET)
            os.close(here)
            os.close(there)

    def server(self, make: Callable[[], socket.socket]) -> socket.socket:
        return self._stack.enter_context(make())

    def from_inside(self, wire: Wire, attempt: Callable[[], object]) -> str:
        with self.inside(wire):
            try:
                attempt()
            except OSError as error:
                return error.strerror or str(error)
        return "done"

    def elements(self, name: str) -> list[object]:
        command = ["nft", "-j", "list", "set", "inet", table_name(self.network.addresses.network), name]
        found = json.loads(subprocess.check_output(command))["nftables"]
        return list(next(each["set"] for each in found if "set" in each).get("elem", []))


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def lab() -> Iterator[Lab]:
    """In a network namespace that stands for this host, so that no other installation's rules are in it."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    os.unshare(os.CLONE_NEWNET)
    try:
        ip("link", "set", "lo", "up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        with ExitStack() as stack:
            yield Lab(stack)
    finally:
        os.setns(here, os.CLONE_NEWNET)
        os.close(here)


def dial(address: str, port: int) -> Callable[[], object]:
    return lambda: socket.create_connection((address, port), timeout=2).close()


@pytest.mark.system
def test_the_host_reaches_a_container_and_not_the_other_way_round_but_for_what_was_granted(lab: Lab) -> None:
    wire, other = lab.wire(5), lab.wire(6)
    ours = lab.server(lambda: socket.create_server(("0.0.0.0", 0)))
    port: int = ours.getsockname()[1]
    with lab.inside(wire):
        theirs = lab.server(lambda: socket.create_server(("0.0.0.0", 8000)))
    with socket.create_connection((wire.address, 8000), timeout=5) as client, theirs.accept()[0] as accepted:
        client.sendall(b"to")
        assert accepted.recv(10) == b"to"
        accepted.sendall(b"fro")
        assert client.recv(10) == b"fro"
    assert lab.from_inside(wire, dial(lab.host, port)) == "Connection refused"
    policy = NetworkPolicy(host_ports=(port,))
    lab.firewall.change(wire.address, USUAL, policy)
    assert lab.from_inside(wire, dial(lab.host, port)) == "done"
    assert lab.from_inside(other, dial(lab.host, port)) == "Connection refused"
    lab.firewall.change(wire.address, policy, USUAL)
    assert lab.from_inside(wire, dial(lab.host, port)) == "Connection refused"


@pytest.mark.system
def test_neither_datagrams_nor_pings_reach_the_host(lab: Lab) -> None:
    wire = lab.wire(5)
    ours = lab.server(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    ours.bind((lab.host, 0))
    ours.settimeout(0.3)

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
            mine.sendto(b"x", ours.getsockname())

    assert lab.from_inside(wire, send) == "done"
    with pytest.raises(TimeoutError):
        ours.recv(10)
    lab.firewall.tear_down()  # and it was the rules that kept it away
    assert lab.from_inside(wire, send) == "done"
    assert ours.recv(10) == b"x"


@pytest.mark.system
def test_containers_do_not_reach_each_other(lab: Lab) -> None:
    wire, neighbour = lab.wire(5), lab.wire(6)
    with lab.inside(neighbour):
        lab.server(lambda: socket.create_server(("0.0.0.0", 8000)))
    assert lab.from_inside(wire, dial(neighbour.address, 8000)) == "No route to host"  # icmp admin-prohibited
    lab.firewall.tear_down()
    assert lab.from_inside(wire, dial(neighbour.address, 8000)) == "done"


@pytest.mark.system
def test_an_address_that_is_not_its_own_sends_nothing(lab: Lab) -> None:
    """With root in the namespace, which no program in a container is."""
    wire, neighbour = lab.wire(5), lab.wire(6)
    ours = lab.server(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    ours.bind((lab.host, 0))
    ours.settimeout(0.3)
    port: int = ours.getsockname()[1]

    def spoof() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(datagram(neighbour.address, lab.host, port), (lab.host, 0))

    lab.firewall.tear_down()
    assert lab.from_inside(wire, spoof) == "done"
    assert ours.recv(10) == b"spoofed"
    # The rules without those that would stop it all the same.
    text = ruleset(lab.network.addresses.network, [], forwards=False).replace("jump to_host", "accept")
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
    assert lab.from_inside(wire, spoof) == "done"
    with pytest.raises(TimeoutError):
        ours.recv(10)


def datagram(source: str, target: str, port: int) -> bytes:
    payload = b"spoofed"
    udp = b"".join(number.to_bytes(2, "big") for number in (4000, port, 8 + len(payload), 0)) + payload
    head = bytes([0x45, 0, 0, 20 + len(udp), 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0, 0])
    return head + socket.inet_aton(source) + socket.inet_aton(target) + udp


@pytest.mark.system
def test_the_world_sees_this_hosts_address_unless_the_container_is_denied_it(lab: Lab) -> None:
    wire, world = lab.wire(5), lab.world()
    with lab.inside(wire):
        lab.server(lambda: socket.create_server(("0.0.0.0", 8000)))
    for address in (WORLD, METADATA):
        with lab.inside(world):
            server = lab.server(lambda address=address: socket.create_server((address, 80)))  # type: ignore[misc]
        if address == WORLD:
            assert lab.from_inside(wire, dial(address, 80)) == "done"
            with server.accept()[0] as accepted:
                assert accepted.getpeername()[0] == GATEWAY
        else:
            assert lab.from_inside(wire, dial(address, 80)) == "No route to host"
    lab.firewall.change(wire.address, USUAL, NetworkPolicy(outbound=False))
    assert lab.elements("offline") == [wire.address]
    assert lab.from_inside(wire, dial(WORLD, 80)) == "No route to host"
    dial(wire.address, 8000)()  # it answers the host all the same


@pytest.mark.system
def test_setting_up_again_keeps_what_was_granted_and_keep_only_takes_the_rest(lab: Lab) -> None:
    gone, kept = lab.network.addresses.of(7), lab.network.addresses.of(8)
    lab.firewall.change(gone, USUAL, NetworkPolicy(host_ports=(80,), outbound=False))
    lab.firewall.change(kept, USUAL, NetworkPolicy(host_ports=(443,)))
    lab.firewall.set_up([])
    assert len(lab.elements("services")) == 2
    lab.firewall.keep_only({kept: NetworkPolicy(host_ports=(443,))})
    assert lab.elements("services") == [{"concat": [kept, 443]}]
    assert lab.elements("offline") == []


@pytest.mark.system
def test_a_set_that_is_not_there_is_an_error_with_its_name(lab: Lab) -> None:
    lab.firewall.tear_down()
    with pytest.raises(OSError, match=r"nftables set fastcontainer_.* services"):
        lab.firewall.change("10.9.0.7", USUAL, NetworkPolicy(host_ports=(80,)))
    lab.firewall.tear_down()  # twice is harmless
