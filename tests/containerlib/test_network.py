"""Which address belongs to whom, purely; and one wired namespace, really."""

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerlib.network import SLOT_FIRST, Addresses, Network
from tests.plugins.compute import free_network

SMALL = Addresses.parse("10.9.0.0/28")


def test_the_first_address_is_the_hosts_and_slots_are_the_rest_but_the_last() -> None:
    assert SMALL.host == "10.9.0.1"
    assert list(SMALL.slots) == list(range(2, 15))
    assert (SMALL.of(2), SMALL.of(14)) == ("10.9.0.2", "10.9.0.14")


@pytest.mark.parametrize("word", ["10.9.0.0/29", "10.9.0.0/32"])
def test_a_network_without_room_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="no room"):
        Addresses.parse(word)


@pytest.mark.parametrize("word", ["", "10.9.0.1/16", "fc00::/64", "10.9.0.0/33"])
def test_what_is_no_network_is_refused(word: str) -> None:
    with pytest.raises(ValueError):
        Addresses.parse(word)


def test_a_large_network_gives_65534_slots() -> None:
    assert Addresses.parse("10.0.0.0/8").slots == range(2, 65536)


@given(st.integers(SLOT_FIRST, 65533))
def test_a_link_names_its_slot(slot: int) -> None:
    addresses = Addresses.parse("100.96.0.0/16")
    assert addresses.slot_of_link(addresses.link(slot)) == slot
    assert len(addresses.link(slot)) <= 15  # IFNAMSIZ
    assert Addresses.parse("100.97.0.0/16").slot_of_link(addresses.link(slot)) is None


@pytest.mark.parametrize("name", ["", "lo", "eth0", "fczzzzzzzz", "fc0a0900020", "xx0a090002", "fc0a09-0002"])
def test_a_link_that_is_not_ours(name: str) -> None:
    assert SMALL.slot_of_link(name) is None


def test_hardware_addresses_are_local_unicast_and_differ() -> None:
    seen = {SMALL.hardware(number) for number in (1, *SMALL.slots)}
    assert len(seen) == 1 + len(SMALL.slots)
    assert SMALL.hardware(1) == "02:fc:0a:09:00:01"
    assert all(int(address[:2], 16) & 3 == 2 for address in seen)


@pytest.fixture
def namespace() -> Iterator[int]:
    """The pid of a process in a network namespace of its own."""
    command = ["unshare", "--net", "sh", "-c", "echo ready; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network(Addresses.parse(free_network()))
    network.set_up()
    yield network
    network.tear_down()
    network.close()


@pytest.mark.system
def test_a_wired_namespace_is_reached_and_seen_and_goes_without_a_trace(network: Network, namespace: int) -> None:
    wire = network.connect(5, namespace)
    assert network.slots_in_use() == {5}
    assert wire.address == network.addresses.of(5)
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/proc/{namespace}/ns/net", os.O_RDONLY)
    os.setns(there, os.CLONE_NEWNET)
    try:
        server = socket.create_server(("0.0.0.0", 8000))
    finally:
        os.setns(here, os.CLONE_NEWNET)
        os.close(here)
        os.close(there)
    with server, socket.create_connection((wire.address, 8000), timeout=5) as client:
        accepted, peer = server.accept()
        with accepted:
            assert peer[0] == network.addresses.host
            assert [found.local_port for found in wire.diag.listening()] == [8000]
            (inside,) = wire.diag.established()
            assert (inside.remote, inside.remote_port) == client.getsockname()
            again = network.window(5, namespace)
            assert again.diag.listening() == wire.diag.listening()
            assert (again.index, again.address) == (wire.index, wire.address)
            again.diag.close()
            for sender, receiver in ((client, accepted), (accepted, client)):
                sender.sendall(bytes(50_000))
                receiver.settimeout(5)
                assert receiver.recv(50_000, socket.MSG_WAITALL) == bytes(50_000)
    network.disconnect(wire)
    assert network.slots_in_use() == set()
    network.disconnect_name(network.addresses.link(5))


@pytest.mark.system
def test_a_namespace_that_is_gone_leaves_no_half_made_link(network: Network, namespace: int) -> None:
    os.kill(namespace, 9)
    os.waitid(os.P_PID, namespace, os.WEXITED | os.WNOWAIT)
    with pytest.raises(OSError):
        network.connect(5, namespace)
    assert network.slots_in_use() == set()


@pytest.mark.system
def test_a_slot_that_is_taken_is_refused_with_the_links_name(network: Network, namespace: int) -> None:
    wire = network.connect(5, namespace)
    try:
        with pytest.raises(OSError, match=network.addresses.link(5)):
            network.connect(5, namespace)
    finally:
        network.disconnect(wire)


@pytest.mark.system
def test_setting_up_twice_and_tearing_down_twice_is_harmless(network: Network) -> None:
    network.set_up()
    network.tear_down()
    network.tear_down()


@pytest.mark.system
def test_an_address_without_a_container_leads_nowhere(network: Network, namespace: int) -> None:
    """And not by the default route to whoever answers there."""
    wire = network.connect(6, namespace)
    network.disconnect(wire)
    with pytest.raises(OSError, match="No route to host"):
        socket.create_connection((wire.address, 80), timeout=5)
    network.set_up()  # by the next agent
    network.tear_down()
    network.tear_down()
