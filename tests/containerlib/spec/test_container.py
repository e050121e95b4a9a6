"""The whole of a container."""

import dataclasses

import pytest

from containerlib.checks import SpecError
from containerlib.spec import ContainerSpec, Mount, Rlimit, Tmpfs


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"name": "A"}, "name: 'A' is not 1 to 63"),
        ({"hostname": "a.b"}, "hostname: 'a.b' is not"),
        ({"command": ()}, r"command: \(\) names no program"),
        ({"command": ("", "x")}, "names no program"),
        ({"command": "php"}, "command: 'php' is not a sequence of texts"),
        ({"env": {"A": 1}}, "env A: 1 is not a text"),
        ({"env": {"A=": "1"}}, "env: 'A=' is not a name"),
        ({"metadata": {"a": "\0"}}, "metadata a: .* contains a NUL"),
        ({"workdir": "srv"}, "workdir: 'srv' is not an absolute path"),
        ({"mounts": (Mount("/a", "/srv"), Tmpfs("/srv"))}, "mount.target: '/srv' is there twice"),
        ({"rlimits": (Rlimit("core", 0, 0), Rlimit("core", 1, 1))}, "rlimit: 'core' is there twice"),
        ({"id_base": 1000}, "id_base: 1000 is not from 65536"),
        ({"init": 1}, "init: 1 is not True or False"),
        ({"namespaces": ("pid",)}, "leaves out"),
    ],
)
def test_is_refused(changes: dict[str, object], rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        ContainerSpec(**{"name": "blog", "command": ("php",), **changes})  # type: ignore[arg-type]


def test_nothing_of_it_changes() -> None:
    env = {"A": "1"}
    spec = ContainerSpec("blog", ("php",), env=env)
    env["A"] = "2"
    assert spec.env["A"] == "1"
    with pytest.raises(TypeError):
        spec.env["A"] = "3"  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.workdir = "/x"  # type: ignore[misc]


def test_its_host_name_is_its_name_unless_it_has_another() -> None:
    assert ContainerSpec("blog", ("php",)).host_name == "blog"
    assert ContainerSpec("blog", ("php",), hostname="www").host_name == "www"


def test_where_it_was_defined_is_no_difference() -> None:
    assert ContainerSpec("a", ("x",), source="a:1") == ContainerSpec("a", ("x",), source="a:2")
