from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerlib.units import (
    format_cpu,
    format_duration,
    format_memory,
    format_rate,
    parse_cpu,
    parse_duration,
    parse_memory,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("parse", "word", "figure"),
    [
        (parse_cpu, "60%", 0.6),
        (parse_cpu, " 250% ", 2.5),
        (parse_cpu, "1%", 0.01),
        (parse_cpu, "0.5e1%", None),
        (parse_cpu, "0.9%", None),
        (parse_cpu, "60", None),
        (parse_cpu, "-5%", None),
        (parse_cpu, "51201%", None),
        (parse_cpu, "nan%", None),
        (parse_cpu, "٦٠%", None),
        (parse_memory, "256M", 256 << 20),
        (parse_memory, "1G", 1 << 30),
        (parse_memory, "4194304", 4 << 20),
        (parse_memory, "3M", None),
        (parse_memory, "256m", None),
        (parse_memory, "1.5G", None),
        (parse_memory, "256MB", None),
        (parse_memory, "", None),
        (parse_size, "0", 0),
        (parse_size, "64K", 65536),
        (parse_size, "-1", None),
        (parse_size, "64k", None),
        (parse_rate, "10Mbit", 10_000_000),
        (parse_rate, "8000bit", 8000),
        (parse_rate, "10M", None),
        (parse_rate, "1.5Mbit", None),
        (parse_duration, "90s", 90.0),
        (parse_duration, "0.5s", 0.5),
        (parse_duration, "1h30m", 5400.0),
        (parse_duration, "2d", 172800.0),
        (parse_duration, "", None),
        (parse_duration, "90", None),
        (parse_duration, "30m1h", None),
        (parse_duration, "-1s", None),
    ],
)
def test_parse(parse: Callable[[str], float], word: str, figure: float | None) -> None:
    if figure is None:
        with pytest.raises(ValueError) as refused:
            parse(word)
        assert repr(word) in str(refused.value)
    else:
        assert parse(word) == figure


@given(st.integers(min_value=1, max_value=51200))
def test_cpu_comes_back(percent: int) -> None:
    assert parse_cpu(format_cpu(percent / 100)) == percent / 100


@given(st.integers(min_value=4 << 20, max_value=1 << 50))
def test_memory_comes_back(amount_bytes: int) -> None:
    assert parse_memory(format_memory(amount_bytes)) == amount_bytes


@given(st.integers(min_value=1, max_value=10**13))
def test_rate_comes_back(bps: int) -> None:
    assert parse_rate(format_rate(bps)) == bps


@given(st.integers(min_value=1, max_value=10**8))
def test_duration_comes_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "word"), [(0, "0s"), (0.25, "0.25s"), (59.9, "59.9s"), (60, "1m"), (3661, "1h1m1s")]
)
def test_format_duration(seconds: float, word: str) -> None:
    assert format_duration(seconds) == word
