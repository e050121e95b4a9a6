import random

import pytest

from dispatcher.compute.digest import bucket, quantile
from dispatcher.compute.protocol import Digest


def digest(times_ms: list[float], requests: int = 0) -> Digest:
    buckets: dict[int, int] = {}
    for ms in times_ms:
        buckets[bucket(ms)] = buckets.get(bucket(ms), 0) + 1
    return Digest(0.0, requests or len(times_ms), len(times_ms), buckets=buckets)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_quantile_is_right_to_a_tenth(share: float) -> None:
    rng = random.Random(1)
    times = sorted(rng.lognormvariate(4, 1.5) + 1 for _ in range(5000))
    exact = times[int(share * len(times))]
    assert quantile([digest(times[::2]), digest(times[1::2])], share) == pytest.approx(exact, rel=0.12)


def test_a_step_is_seen_in_its_own_second() -> None:
    assert quantile([digest([10.0] * 100)], 0.5) == pytest.approx(10, rel=0.1)
    assert quantile([digest([500.0] * 100)], 0.5) == pytest.approx(500, rel=0.1)


def test_few_of_many_count_for_all() -> None:
    assert quantile([digest([10.0] * 5, requests=500), digest([200.0] * 50)], 0.5) == pytest.approx(10, rel=0.1)


def test_none_and_less_than_a_millisecond() -> None:
    assert quantile([], 0.5) is None
    assert quantile([Digest(0.0, 5)], 0.5) is None
    assert quantile([digest([0.0, 0.2])], 0.5) == 0.5
