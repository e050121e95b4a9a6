"""A function that fills a root."""

import functools
from pathlib import Path

import pytest

from containerlib.bootstrap.function import Function
from containerlib.images import Bench, Line, Progress
from tests.plugins.images import Heard


def make(root: Path, progress: Progress) -> None:
    progress(Line("box", "bootstrap", "made"))
    (root / "file").write_text("x")


def make_other(root: Path, progress: Progress) -> None:
    make(root, progress)


class Callable:
    def __call__(self, root: Path, progress: Progress) -> None:
        make(root, progress)


@pytest.mark.parametrize("function", [make, Callable(), functools.partial(make)])
def test_it_is_called_with_root_and_progress(root: Path, tmp_path: Path, function: object) -> None:
    assert callable(function)
    heard = Heard()
    Function(function).build(root, Bench("box", "bootstrap", tmp_path, heard))
    assert (root / "file").read_text() == "x" and heard.lines == ["made"]


def test_the_recipe_is_name_source_and_version() -> None:
    assert Function(make).recipe() == Function(make).recipe()
    others = [Function(make, "2"), Function(make_other), Function(Callable()), Function(functools.partial(make))]
    assert len({each.recipe() for each in (*others, Function(make))}) == 5


def test_a_changed_body_changes_the_recipe(tmp_path: Path) -> None:
    recipes = set()
    for number, text in enumerate(("pass", "print()")):
        path = tmp_path / f"{number}.py"
        path.write_text(f"def f(root, progress):\n    {text}\n")
        names: dict[str, object] = {"__name__": "definition"}
        exec(compile(path.read_text(), path, "exec"), names)
        recipes.add(Function(names["f"]).recipe())  # type: ignore[arg-type]
    assert len(recipes) == 2


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match=r"Function\.function 'x': must be callable as function\(root, progress\)"):
        Function("x")  # type: ignore[arg-type]
