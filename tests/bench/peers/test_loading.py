import json

import pytest

from bench.peers.loading import Load, parse_load


def told(requests: int = 300, failed: int = 0, broken: int = 0) -> str:
    line = {"requests": requests, "failed": failed, "broken": broken}
    return "Running 2s test\n" + json.dumps(line | {"duration_us": 2_000_000, "p50_us": 900, "p99_us": 15_192}) + "\n"


def test_a_report_of_wrk() -> None:
    assert parse_load(told()) == Load(150.0, 0.9, 15.192, 300)


@pytest.mark.parametrize("output", [told(failed=1), told(broken=1), told(requests=0)])
def test_no_figure_of_a_load_that_failed(output: str) -> None:
    with pytest.raises(RuntimeError, match="failed"):
        parse_load(output)


def test_a_server_may_close_after_each_answer() -> None:
    assert parse_load(told(broken=300), closes=True).n == 300
    with pytest.raises(RuntimeError, match="1 failed"):
        parse_load(told(failed=1, broken=300), closes=True)
