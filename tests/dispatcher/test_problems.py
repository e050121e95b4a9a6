import pytest

from dispatcher.problems import EXIT_CODE, HTTP_STATUS, Code, Problem


def test_every_code_has_a_status() -> None:
    assert set(HTTP_STATUS) == set(Code)
    assert all(400 <= status < 600 for status in HTTP_STATUS.values())


@pytest.mark.parametrize(
    ("code", "status", "exit_code"),
    [
        (Code.INVALID, 400, 2),
        (Code.UNKNOWN_APP, 404, 3),
        (Code.EXISTS, 409, 4),
        (Code.FORBIDDEN, 403, 5),
        (Code.CMDB_DOWN, 503, 6),
        (Code.START_FAILED, 503, 1),
    ],
)
def test_what_a_code_means_on_each_border(code: Code, status: int, exit_code: int) -> None:
    problem = Problem(code, "no", hint="yes", retry_after_s=3.0)
    assert (problem.http_status, problem.exit_code) == (status, exit_code)
    assert (str(problem), problem.hint, problem.retry_after_s) == ("no", "yes", 3.0)


def test_no_exit_code_means_success() -> None:
    assert 0 not in EXIT_CODE.values()
