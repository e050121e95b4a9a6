import pytest

from bench import imagestart

pytestmark = pytest.mark.system


def test_both_kinds_of_root_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagestart, "ROUNDS_QUICK", 2)
    report = imagestart.run(True)
    found = {result.what for result in report.results}
    assert {"usr: asked -> exec'd", "usr: first byte", "image: gate", "image: first byte"} <= found
    assert "usr: gate" not in found
