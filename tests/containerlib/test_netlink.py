"""Requests that the kernel understands, made in a network namespace of their own."""

import errno
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from containerlib import netlink
from containerlib.netlink import Route

pytestmark = pytest.mark.system
HARDWARE, OTHER = "02:fc:00:00:00:01", "02:fc:00:00:00:02"


def alone(check: Callable[[Route], None]) -> None:
    """In a thread, whose namespace goes with it."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            os.unshare(os.CLONE_NEWNET)
            with Route() as route:
                check(route)
        except BaseException as error:  # noqa: BLE001 - raised by the test
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def pair(route: Route) -> tuple[int, int]:
    """Both ends in the same namespace."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        route.request(netlink.veth("a", HARDWARE, peer="b", peer_hardware=OTHER, namespace=here))
    finally:
        os.close(here)
    return socket.if_nametoindex("a"), socket.if_nametoindex("b")


def test_the_kernel_begins_no_ipv6_on_a_link() -> None:
    def check(route: Route) -> None:
        _, other = pair(route)
        route.request(netlink.link_up(other))
        known = Path("/proc/thread-self/net/dev_snmp6")  # one file for each link that speaks it
        assert not known.exists() or not {"a", "b"} & {entry.name for entry in known.iterdir()}

    alone(check)


def test_a_pair_an_address_a_neighbour_and_routes_as_another_library_sees_them() -> None:
    def check(route: Route) -> None:
        one, other = pair(route)
        route.request(
            netlink.link_up(other),
            netlink.address(other, "10.9.0.7", 32),
            netlink.neighbour(other, "10.9.0.1", HARDWARE),
            netlink.route_to(other, "10.9.0.1", source="10.9.0.7"),
            netlink.default_route(other, "10.9.0.1"),
        )
        with IPRoute() as seen:
            for index, hardware in ((one, HARDWARE), (other, OTHER)):
                (link,) = seen.get_links(index)
                assert (link["state"], link.get("address")) == ("up", hardware)
                assert (link.get("num_tx_queues"), link.get("num_rx_queues")) == (1, 1)
            (address,) = seen.get_addr(index=other, family=socket.AF_INET)
            assert (address.get("address"), address["prefixlen"]) == ("10.9.0.7", 32)
            (neighbour,) = seen.get_neighbours(ifindex=other, family=socket.AF_INET, dst="10.9.0.1")
            assert (neighbour.get("lladdr"), neighbour["state"]) == (HARDWARE, netlink.NUD_PERMANENT)
            routes = {each.get("dst"): each for each in seen.get_routes(family=socket.AF_INET, table=254)}
            assert (routes["10.9.0.1"].get("oif"), routes["10.9.0.1"].get("prefsrc")) == (other, "10.9.0.7")
            assert (routes[None].get("oif"), routes[None].get("gateway")) == (other, "10.9.0.1")
        route.request(netlink.delete_link(one))
        assert [name for _, name in socket.if_nameindex() if name in "ab"] == []

    alone(check)


def test_what_is_refused_is_raised_and_what_comes_after_it_is_done() -> None:
    def check(route: Route) -> None:
        _, other = pair(route)
        with pytest.raises(OSError) as refused:
            route.request(netlink.address(other + 1000, "10.9.0.7", 32), netlink.address(other, "10.9.0.8", 32))
        assert refused.value.errno == errno.ENODEV
        assert refused.value.filename == f"rtnetlink request {netlink.RTM_NEWADDR}"
        with IPRoute() as seen:
            assert [each.get("address") for each in seen.get_addr(index=other, family=socket.AF_INET)] == ["10.9.0.8"]

    alone(check)


def test_what_is_there_already_is_refused() -> None:
    def check(route: Route) -> None:
        pair(route)
        with pytest.raises(OSError) as refused:
            pair(route)
        assert refused.value.errno == errno.EEXIST

    alone(check)


def test_a_limit_of_what_leaves_is_changed_in_place_and_lifted() -> None:
    def check(route: Route) -> None:
        one, _ = pair(route)
        for rate in (125_000, 2_500_000_000):
            route.request(netlink.bucket(one, rate, burst_bytes=10_000, queue_bytes=70_000))
            with IPRoute() as seen:
                (queue,) = [each for each in seen.get_qdiscs(one) if each.get("kind") == "tbf"]
            parameters = queue.get("options").get("TCA_TBF_PARMS")
            assert (parameters["rate"], parameters["limit"]) == (rate, 70_000)
        route.request(netlink.no_bucket(one))
        with pytest.raises(OSError) as refused:
            route.request(netlink.no_bucket(one))
        assert refused.value.errno in (errno.ENOENT, errno.EINVAL)

    alone(check)
