"""What a program does instead of getting ready. The waiting itself: test_runner.py."""

import pytest

from containerlib.readiness import Finding, Listening
from containerlib.standalone.ready import why_not


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        (Finding(Listening.NO), "it did not listen on port 80 within 5 s"),
        (Finding(Listening.LOOPBACK_ONLY), "it listens on port 80 of 127.0.0.1 only; it must listen on 0.0.0.0"),
        (
            Finding(Listening.OTHER_PORT, ports=(443, 8080)),
            "it listens on port 443, 8080, not on port 80 (its definition's readiness)",
        ),
    ],
)
def test_why_not(finding: Finding, words: str) -> None:
    assert why_not(finding, 80, 5.0) == words
