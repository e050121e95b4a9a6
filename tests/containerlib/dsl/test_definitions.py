"""Files of definitions: loaded, inherited from, refused."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import containerlib
from containerlib.dsl import DefinitionError, Definitions, load

Defined = Callable[[str], Definitions]
Write = Callable[..., Path]

FAMILY = """
@define("base", template=True)
def base(c):
    c.workdir = "/srv"
    c.env["WHO"] = c.name
    @c.hook(Phase.SETUP)
    def of_base(container): ...

@define("shop", inherits="blog")
def shop(c):
    c.env["SHOP"] = "1"
    c.cgroup.memory = "512M"

@define("blog", inherits=base)
def blog(c):
    c.command("php")
    c.cgroup.memory = "256M"
    @c.hook(Phase.SETUP)
    def of_blog(container): ...
"""


def test_children_inherit_and_correct(defined: Defined) -> None:
    shop = defined(FAMILY).spec("shop")
    assert shop.name == shop.host_name == "shop"
    assert (shop.command, shop.workdir, dict(shop.env)) == (("php",), "/srv", {"WHO": "shop", "SHOP": "1"})
    assert shop.cgroup.memory_bytes == 512 << 20
    assert [hook.name for hook in shop.hooks] == ["of_base", "of_blog"]


def test_a_child_changes_nothing_of_its_parent(defined: Defined) -> None:
    definitions = defined(FAMILY)
    definitions.spec("shop")
    blog = definitions.spec("blog")
    assert dict(blog.env) == {"WHO": "blog"}
    assert blog.cgroup.memory_bytes == 256 << 20


def test_templates_do_not_run(defined: Defined) -> None:
    definitions = defined(FAMILY)
    assert definitions.names() == ["shop", "blog"]
    assert [spec.name for spec in definitions.specs()] == ["shop", "blog"]
    with pytest.raises(DefinitionError, match=r"site.py:3: 'base' is a template"):
        definitions.spec("base")


def test_a_parent_may_be_in_another_file(write: Write) -> None:
    parent = write('@define("base", template=True)\ndef base(c):\n    c.command("php")\n', "base.py")
    child = write('@define("blog", inherits="base")\ndef blog(c): ...\n', "blog.py")
    assert load([child, parent]).spec("blog").command == ("php",)
    assert set(load([child, parent]).texts) == {str(child), str(parent)}


def test_each_file_has_a_namespace_of_its_own(write: Write) -> None:
    write("import os as secret\nvalue = 1\n", "first.py")
    second = write('@define("x")\ndef x(c):\n    c.command(str(value))\n', "second.py")
    with pytest.raises(DefinitionError, match=r"second.py:4: NameError: name 'value' is not defined"):
        load([second.parent / "first.py", second]).spec("x")


def test_a_name_is_defined_once_in_all_files(write: Write) -> None:
    first = write('@define("x")\ndef x(c): ...\n', "first.py")
    second = write('\n@define("x")\ndef x(c): ...\n', "second.py")
    with pytest.raises(DefinitionError, match=r"second.py:3: 'x' is defined already, in .*first.py:2"):
        load([first, second])
    assert load([first, first]).names() == ["x"]  # the same file named twice is one


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('@define("X")\ndef x(c): ...', r"site.py:2: name: 'X' is not 1 to 63"),
        ('@define("x", inherits="y")\ndef x(c): ...', r"site.py:2: 'x' inherits from 'y', which nobody defines"),
        (
            '@define("x", inherits="y")\ndef x(c): ...\n@define("y", inherits="x")\ndef y(c): ...',
            r"site.py:2: 'x' inherits from itself, by 'x'",
        ),
        ('@define("x")\ndef x(c):\n    1 / 0', r"site.py:4: ZeroDivisionError: division by zero"),
        ("def helper(c):\n    c.no_such()\n@define('x')\ndef x(c):\n    helper(c)", r"site.py:3: 'no_such' is unknown"),
        ("import json\n@define('x')\ndef x(c):\n    json.loads('{')", r"site.py:5: JSONDecodeError: "),
        ("@define('x')\ndef x(): ...", r"site.py:2: TypeError: "),
    ],
)
def test_is_refused_with_its_line(defined: Defined, text: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        defined(text).spec("x")


@pytest.mark.parametrize(
    ("text", "message"),
    [("def x(:", r"site.py:2: SyntaxError: "), ("\nno_such_name", r"site.py:3: NameError: ")],
)
def test_a_file_that_cannot_be_loaded_is_told_with_its_line(defined: Defined, text: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        defined(text)


def test_an_unknown_name_lists_the_known(defined: Defined) -> None:
    with pytest.raises(DefinitionError, match="no definition is called 'z'; there is shop, blog"):
        defined(FAMILY).spec("z")


def test_defining_outside_of_a_file_gives_a_definition() -> None:
    @containerlib.define("blog")
    def blog(c: containerlib.Builder) -> None:
        c.command("php")

    assert (blog.name, blog.template) == ("blog", False)
    assert blog.where.startswith(__file__)


# ---- whose file it is


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
@pytest.mark.system
def test_root_executes_no_file_that_others_can_write(write: Write, mode: int) -> None:
    path = write("pass")
    path.chmod(mode)
    with pytest.raises(DefinitionError, match=rf"site.py: can be written by others \(mode {mode:o}\); chmod go-w it"):
        load([path])


@pytest.mark.system
def test_root_executes_no_file_of_somebody_else(write: Write) -> None:
    path = write("pass")
    os.chown(path, 4711, 0)
    with pytest.raises(DefinitionError, match=r"site.py: belongs to user 4711, and root would execute it"):
        load([path])


@pytest.mark.system
@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o755, 4711)])
def test_root_executes_nothing_that_others_could_have_put_there(tmp_path: Path, mode: int, owner: int) -> None:
    directory = tmp_path / "open"
    directory.mkdir()
    (directory / "site.py").write_text("pass")
    os.chown(directory, owner, 0)
    directory.chmod(mode)
    with pytest.raises(DefinitionError, match=r"/open: (can be written|belongs to user)"):
        load([directory / "site.py"])


@pytest.mark.system
def test_a_link_does_not_hide_whose_directory_it_leads_to(tmp_path: Path) -> None:
    directory = tmp_path / "open"
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    (directory / "site.py").write_text("pass")
    (tmp_path / "link.py").symlink_to(directory / "site.py")
    with pytest.raises(DefinitionError, match=r"/open: can be written"):
        load([tmp_path / "link.py"])


def test_a_file_is_a_file_and_not_without_end(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("#" * (1 << 21))
    with pytest.raises(DefinitionError, match=r"large.py: is larger than 1048576 bytes"):
        load([tmp_path / "large.py"])
    with pytest.raises(FileNotFoundError):
        load([tmp_path / "none.py"])
    with pytest.raises(DefinitionError, match=r"null: is not a file"):
        load(["/dev/null"])
