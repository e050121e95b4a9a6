"""The operator's files: followed, refused, and what holds while they are broken."""

import os
from pathlib import Path

import pytest

from containerlib.handle import StartFailed
from dispatcher.compute.definitions import Shelf
from dispatcher.domain import App, AppSpec


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def write(directory: Path, name: str, body: str = '    c.command("x")\n', file: str = "", inherits: str = "") -> Path:
    path = directory / (file or f"{name}.py")
    path.with_suffix(".new").write_text(
        f"from containerlib import define\n@define({name!r}{inherits})\ndef it(c):\n{body}"
    )
    path.with_suffix(".new").chmod(0o644)
    path.with_suffix(".new").rename(path)
    return path


def command(shelf: Shelf, name: str) -> tuple[str, ...]:
    found = shelf.get(name)
    assert found is not None
    return found.command


async def test_what_changes_is_read_again_and_what_does_not_stays_the_very_same(directory: Path) -> None:
    write(directory, "blog")
    write(directory, "shop")
    shelf = Shelf(directory)
    assert await shelf.refresh() == () and shelf.names() == ["blog", "shop"]
    blog, shop = shelf.get("blog"), shelf.get("shop")
    assert not shelf.has_changed() and await shelf.refresh() == () and shelf.get("blog") is blog
    write(directory, "blog", '    c.command("y")\n')
    assert shelf.has_changed() and await shelf.refresh() == ()
    assert command(shelf, "blog") == ("y",) and shelf.get("shop") is shop
    (directory / "shop.py").unlink()
    await shelf.refresh()
    assert shelf.names() == ["blog"]


async def test_one_that_inherits_follows_its_parents_file(directory: Path) -> None:
    write(directory, "base")
    write(directory, "blog", "    c.env['A'] = 'b'\n", inherits=", inherits='base'")
    shelf = Shelf(directory)
    await shelf.refresh()
    write(directory, "base", '    c.command("y")\n')
    await shelf.refresh()
    assert command(shelf, "blog") == ("y",)


@pytest.mark.parametrize(
    "body, message",
    [
        ("    c.command(\n", r"blog.py:\d+: SyntaxError"),
        ("    c.cgroup.pids = 1\n", r"blog.py:4: cgroup.pids: 1 is not"),
        ("    nonsense()\n", r"blog.py:4: NameError"),
    ],
)
async def test_a_broken_file_keeps_its_last_good_text_and_stops_no_other(
    directory: Path, body: str, message: str
) -> None:
    write(directory, "blog")
    write(directory, "shop")
    shelf = Shelf(directory)
    await shelf.refresh()
    write(directory, "blog", body)
    write(directory, "shop", '    c.command("y")\n')
    (complaint,) = await shelf.refresh()
    assert pytest.raises(AssertionError, match=message).matches(AssertionError(complaint))
    assert (command(shelf, "blog"), command(shelf, "shop")) == (("x",), ("y",))
    write(directory, "blog", '    c.command("z")\n')
    assert await shelf.refresh() == () and command(shelf, "blog") == ("z",)


async def test_one_that_was_never_good_is_missing_with_the_reason(directory: Path) -> None:
    write(directory, "blog", "    nonsense()\n")
    write(directory, "shop")
    shelf = Shelf(directory)
    await shelf.refresh()
    with pytest.raises(StartFailed, match=r"definition 'blog' is not in .*: there is shop; .*blog.py:4: NameError"):
        shelf.of(App("x", AppSpec(definition="blog")))
    app = App("x", AppSpec(definition="blog"))
    assert shelf.applied(app) is app


@pytest.mark.system
async def test_files_of_others_are_never_executed(directory: Path) -> None:
    mark = directory / "executed"
    path = write(directory, "blog", f'    open({str(mark)!r}, "w")\n')
    os.chown(path, 1234, 1234)
    shelf = Shelf(directory)
    (complaint,) = await shelf.refresh()
    assert "belongs to user 1234" in complaint and not mark.exists()
    os.chown(path, 0, 0)
    path.chmod(0o666)
    (complaint,) = await shelf.refresh()
    assert "can be written by others" in complaint and not mark.exists()


async def test_without_a_directory_there_are_none(directory: Path) -> None:
    shelf = Shelf(directory / "none")
    assert await shelf.refresh() == () and shelf.names() == []


async def test_what_an_app_cannot_have_is_named(directory: Path) -> None:
    write(directory, "blog", '    c.command("x")\n    c.id_base = 1 << 20\n')
    shelf = Shelf(directory)
    await shelf.refresh()
    with pytest.raises(StartFailed, match="says what an app cannot have: id_base"):
        shelf.of(App("x", AppSpec(definition="blog")))
