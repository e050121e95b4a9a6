"""What a container may do beyond nothing."""

from pathlib import Path

import pytest

from containerlib.checks import SpecError
from containerlib.spec.security import (
    ALLOWED,
    CAPABILITIES,
    REFUSED,
    Security,
    capability_mask,
    check_namespaces,
    parse_capability,
)


@pytest.mark.parametrize("word", ["chown", "CHOWN", "CAP_CHOWN", "cap_chown"])
def test_capabilities_by_any_spelling(word: str) -> None:
    assert parse_capability(word) == "chown"


def test_numbers_of_capabilities_are_the_kernels() -> None:
    """The first and last of linux/capability.h, and one on each side of where Haconiwa's list ended."""
    numbers = {name: CAPABILITIES.index(name) for name in ("chown", "sys_admin", "audit_read", "perfmon", "bpf")}
    assert numbers == {"chown": 0, "sys_admin": 21, "audit_read": 37, "perfmon": 38, "bpf": 39}
    assert CAPABILITIES[40] == "checkpoint_restore"
    assert len(CAPABILITIES) <= int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: parse_capability("all"), "capabilities: 'all' is none of"),
        (lambda: Security(capabilities=("chown", "chown")), "capabilities: 'chown' is there twice"),
        (
            lambda: Security(capabilities=("sys_admin",)),
            "'sys_admin' is not given to containers: it is every right at once",
        ),
        (lambda: Security(capabilities=("net_raw",)), "it is over the network, .* There is chown, dac_override"),
        (lambda: Security(capabilities=("lease",)), "it counts for the host's own user namespace alone"),
        (lambda: check_namespaces(("mount", "pid")), "leaves out ipc, net, user, uts"),
        (lambda: check_namespaces(("time",)), "namespaces: 'time' is none of"),
    ],
)
def test_is_refused(make, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        make()


def test_every_other_capability_is_refused_with_a_reason() -> None:
    assert len(set(ALLOWED) | set(REFUSED)) == len(ALLOWED) + len(REFUSED)
    for name in set(CAPABILITIES) - set(ALLOWED):
        with pytest.raises(SpecError, match="is not given to containers: it "):
            Security(capabilities=(name,))
    assert Security(capabilities=ALLOWED).capabilities == ALLOWED


def test_masks() -> None:
    assert capability_mask(()) == 0
    assert capability_mask(("chown", "kill", "chown")) == 0b100001


def test_namespaces() -> None:
    assert check_namespaces(("mount", "pid", "ipc", "uts", "net", "user", "pid"))[-1] == "user"
