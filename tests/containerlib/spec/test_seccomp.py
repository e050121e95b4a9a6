"""Which system calls may be asked for."""

import pytest

from containerlib.checks import SpecError
from containerlib.spec.seccomp import DANGEROUS, Seccomp, check_danger


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Seccomp("off"), "seccomp: 'off' is not an absolute path"),
        (lambda: Seccomp(allow=("Mount",)), "is not the name of a system call"),
        (lambda: Seccomp(allow=("mount",)), r"'mount' is dangerous, for it changes .* if it must be: dangerous="),
        (lambda: Seccomp(dangerous=("read",)), "'read' is none that is known to be"),
        (lambda: Seccomp(allow=("mlock",), deny=("mlock",)), "'mlock' is there twice"),
    ],
)
def test_is_refused(make, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        make()


def test_what_is_dangerous_is_had_by_its_name_alone() -> None:
    for name in DANGEROUS:
        assert Seccomp(dangerous=(name,)).dangerous == (name,)
        assert Seccomp(deny=(name,)).deny == (name,)
        with pytest.raises(SpecError, match=f"'{name}' is dangerous, for it "):
            Seccomp(allow=(name,))
        check_danger("x", name, ("reboot", name))
    check_danger("x", "read", ())
