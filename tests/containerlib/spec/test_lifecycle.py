"""When a container is ready, and how old it may grow."""

import pytest

from containerlib.checks import SpecError
from containerlib.spec.lifecycle import Lifespan, Readiness


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Readiness(70000), "readiness.port: 70000 is not from 1"),
        (lambda: Readiness(path="/health"), "readiness.path: '/health' is not a path such as /health beside a port"),
        (lambda: Readiness(80, "health"), "readiness.path: 'health' is not"),
        (lambda: Readiness(80, timeout_s=0), "readiness.timeout: 0 is not more than 0"),
        (lambda: Lifespan(0), "lifespan: 0 is not more than 0"),
    ],
)
def test_is_refused(make, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        make()


def test_is_accepted() -> None:
    assert Lifespan().seconds is None
    assert Readiness(80, "/health", 1.5).timeout_s == 1.5
