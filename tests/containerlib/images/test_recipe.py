"""What changes a recipe and what does not."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from containerlib.images import recipe


@dataclass(frozen=True)
class Part:
    name: str
    path: Path
    words: tuple[str, ...] = ()
    timeout_s: float = 5


@dataclass(frozen=True)
class Other(Part):
    pass


PART = Part("a", Path("/x"))


@pytest.mark.parametrize(
    "other", [Part("b", Path("/x")), Part("a", Path("/y")), Part("a", Path("/x"), ("w",)), Other("a", Path("/x"))]
)
def test_each_field_and_the_type_count(other: Part) -> None:
    assert recipe.of(other) != recipe.of(PART)


def test_a_time_limit_and_what_is_omitted_do_not() -> None:
    assert recipe.of(Part("a", Path("/x"), timeout_s=9)) == recipe.of(PART)
    assert recipe.of(Part("a", Path("/y")), omit=("path",)) == recipe.of(PART, omit=("path",))
    assert recipe.of(PART, omit=("path",)) != recipe.of(PART)


def test_what_a_field_names_counts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    before = recipe.of_file(tmp_path / "file")
    assert recipe.of(PART, contents=before) == recipe.of(PART, contents=before) != recipe.of(PART)
    (tmp_path / "file").write_text("y")
    assert recipe.of_file(tmp_path / "file") != before


def test_parts_in_order() -> None:
    assert recipe.combined(["a", "b"]) != recipe.combined(["b", "a"]) != recipe.combined(["ba"])


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot depend on a object"):
        recipe.of(Part("a", object()))  # type: ignore[arg-type]
