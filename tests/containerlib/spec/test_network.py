"""Whom a container can talk to."""

import pytest

from containerlib.checks import SpecError
from containerlib.spec.network import NetworkAccess


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: NetworkAccess(address="10.0.0"), "network.address: '10.0.0' is not an IPv4 address"),
        (lambda: NetworkAccess(outbound="no"), "network.outbound: 'no' is not True or False"),
        (lambda: NetworkAccess(host_services=(0,)), "network.host_services: 0 is not from 1 to 65535"),
        (lambda: NetworkAccess(bandwidth_bps=10), "network.bandwidth: 10 is not from 8000"),
    ],
)
def test_is_refused(make, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        make()


def test_is_accepted() -> None:
    assert NetworkAccess("100.96.0.9", False, (3306,), 8000).host_services == (3306,)
