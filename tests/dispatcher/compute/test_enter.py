"""What keeps somebody out of a container, as a problem. How it is entered is tested in tests/containerlib/test_enter.py."""

import os

import pytest

from dispatcher.compute.enter import enter
from dispatcher.compute.protocol import Door
from dispatcher.problems import Code, Problem

GONE = Door(1, "blog/1.1", 1 << 22, (), 345_678, "/", {})


@pytest.mark.system
def test_a_container_that_ended_meanwhile() -> None:
    with pytest.raises(Problem, match=r"blog/1\.1 ended meanwhile") as refused:
        enter(GONE, ["true"])
    assert refused.value.code is Code.CONTAINER_DIED


def test_only_root_enters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Problem) as refused:
        enter(GONE, [])
    assert refused.value.code is Code.FORBIDDEN
