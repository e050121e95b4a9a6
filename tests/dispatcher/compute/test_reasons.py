import signal

import pytest

from containerlib.readiness import Finding, Listening
from dispatcher.compute import reasons


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        (Finding(Listening.LOOPBACK_ONLY), "port 80 of 127.0.0.1 only; it must listen on 0.0.0.0"),
        (Finding(Listening.OTHER_PORT, ports=(3000, 3001)), "listens on port 3000, 3001, not on port 80"),
        (Finding(Listening.NO), "did not listen on port 80 within 2.5 s"),
    ],
)
def test_why_it_is_not_ready(finding: Finding, words: str) -> None:
    assert words in reasons.why_not_ready(finding, 80, 2.5)


@pytest.mark.parametrize(("status", "code"), [(None, None), (0, 0), (3 << 8, 3), (signal.SIGKILL, 137)])
def test_exit_codes_are_a_shells(status: int | None, code: int | None) -> None:
    assert reasons.exit_code(status) == code
