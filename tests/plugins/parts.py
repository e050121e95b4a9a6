"""A whole run in two parts that go on at once (tests/beside.py): most of either is waiting.

Every test is in exactly one of them; without --part both are.
"""

import pytest

BESIDE = ("addons", "bench", "containerlib", "dispatcher", "escapes", "walk")
OUTSIDE = "containerlib/bootstrap"  # gets packages from where this host has its own: beside there is no way out


def is_beside(path: str) -> bool:
    """Pure: of a test file, below tests/."""
    return path.split("/")[0] in BESIDE and not path.startswith(f"{OUTSIDE}/")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", choices=("beside", "rest"), help="of a whole run; see tests/plugins/parts.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part = config.getoption("--part")
    if part is None:
        return
    tests = config.rootpath / "tests"
    chosen, left = [], []
    for item in items:
        beside = is_beside(item.path.relative_to(tests).as_posix())
        (chosen if beside == (part == "beside") else left).append(item)
    items[:] = chosen
    config.hook.pytest_deselected(items=left)
