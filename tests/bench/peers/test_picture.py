from pathlib import Path

import pytest

from bench.peers.picture import draw, figure
from bench.peers.report import OURS, report
from tests.bench.peers.test_report import FOUND


@pytest.fixture(scope="module", autouse=True)
def _fonts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """matplotlib keeps them open for the life of the process."""
    draw(report(FOUND, {}, 50), tmp_path_factory.mktemp("fonts") / "a.svg")


@pytest.mark.parametrize(("name", "begins"), [("a.svg", b"<?xml"), ("a.png", b"\x89PNG")])
def test_a_picture_of_everybody(name: str, begins: bytes, tmp_path: Path) -> None:
    draw(report(FOUND, {}, 50), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert content.startswith(begins)
    if name.endswith(".svg"):
        assert OURS in content.decode() and FOUND[1].name in content.decode() and "50 sites" in content.decode()


def test_the_same_figures_make_the_same_picture(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw(report(FOUND, {}, 50), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("value", "word"),
    [(0.347, "0.347"), (6.1349, "6.13"), (73, "73"), (1837.4, "1,837"), (29463.0, "29,463"), (99.96, "100")],
)
def test_figures_are_short_and_plain(value: float, word: str) -> None:
    assert figure(value) == word


def test_nobody_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no peer was measured"):
        draw(report([], {}, 50), tmp_path / "a.svg")
