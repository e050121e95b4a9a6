"""container checkpoint | restore, when there is nothing to do it with. The rest is in checkpoint/test_restoring.py."""

import pytest

from tests.containerlib.conftest import SLEEP, Box

pytestmark = pytest.mark.system


def test_one_that_does_not_run(box: Box) -> None:
    done = box.call("checkpoint", "web")
    assert done.returncode == 3
    assert "no container 'web' runs here" in done.stderr


def test_one_without_an_image(box: Box) -> None:
    for what in ("web", box.define(SLEEP)):
        done = box.call("restore", what)
        assert done.returncode == 3
        assert "there is no image" in done.stderr
    assert box.names() == []
