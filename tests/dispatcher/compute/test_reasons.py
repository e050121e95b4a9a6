import signal

import pytest

from dispatcher.compute import reasons


@pytest.mark.parametrize(("status", "code"), [(None, None), (0, 0), (3 << 8, 3), (signal.SIGKILL, 137)])
def test_exit_codes_are_a_shells(status: int | None, code: int | None) -> None:
    assert reasons.exit_code(status) == code
