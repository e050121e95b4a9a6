"""What runs, as whom, and how it is ended."""

from signal import Signals

import pytest

from containerlib import idmap
from containerlib.checks import SpecError
from containerlib.spec.process import Log, Stop, User, check_id_base


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: User(1023), "user: 1023 is not from 0 to 1022"),
        (lambda: User(-1), "user: -1 is not from 0 to 1022"),
        (lambda: check_id_base(33), "id_base: 33 is not from 65536"),
        (lambda: check_id_base(1 << 31), "id_base: 2147483648 is not from"),
        (lambda: User(""), "user: '' is an empty name"),
        (lambda: User(0, group=4000), "group: 4000 is not"),
        (lambda: User(0, groups=("adm", 4000)), "groups: 4000 is not"),
        (lambda: User(True), "user: True is not a whole number"),
        (lambda: Stop(Signals.SIGTERM, -1), "stop.grace: -1 is not 0 or more"),
        (lambda: Log(stdout="log"), "log.stdout: 'log' is not an absolute path"),
        (lambda: Log(bytes_max=1), "log.bytes_max: 1 is not from"),
    ],
)
def test_is_refused(make, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        make()


def test_every_id_that_a_container_has_is_accepted() -> None:
    for extent in idmap.extents(0):
        assert User(extent.inside + extent.count - 1).user == extent.inside + extent.count - 1


def test_is_accepted() -> None:
    assert User("www-data", "www-data", ("adm", 4)).groups == ("adm", 4)
    assert Stop(grace_s=0).describe() == "SIGTERM, SIGKILL after 0s"
