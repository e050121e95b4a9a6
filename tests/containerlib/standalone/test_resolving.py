"""What a definition on an image comes to. An image's /etc is anybody's."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from containerlib import images
from containerlib.checks import SpecError
from containerlib.images import Config, Manifest
from containerlib.spec import ContainerSpec, Image, User
from containerlib.standalone.resolving import named_user, resolve

VERSION = "20260101-000000-0123abcd"


def store(directory: Path, config: Config = Config(), passwd: str = "www:x:33:34::/srv:/bin/sh\n") -> images.Store:  # noqa: B008
    path = directory / "small" / VERSION
    (path / "root/etc").mkdir(parents=True)
    (path / "root/etc/passwd").write_text(passwd)
    (path / "root/etc/group").write_text("adm:x:4:www\n")
    manifest = Manifest(
        name="small",
        version=VERSION,
        recipe="r",
        contents="c",
        built=1,
        size_bytes=1,
        files=1,
        bootstrap="b",
        config=config,
    )
    (path / "manifest.json").write_bytes(manifest.to_bytes())
    return images.Store(directory)


SPEC = ContainerSpec("web", ("sh",), root=Image("small"))


@pytest.mark.parametrize(
    ("asked", "configured", "expected"),
    [
        (User(), "", User(0)),
        (User(), "www", User(33, 34)),
        (User(), "www:adm", User(33, 4)),
        (User(), "7:8", User(7, 8)),
        (User("www", 9, ("adm", 5)), "root", User(33, 9, (4, 5))),
        (User(12), "www", User(12)),
    ],
)
def test_users(tmp_path: Path, asked: User, configured: str, expected: User) -> None:
    image, spec = resolve(replace(SPEC, user=asked), store(tmp_path, Config(user=configured)))
    assert (image.version, spec.user) == (VERSION, expected)


def test_the_definitions_words_win(tmp_path: Path) -> None:
    config = Config(("image",), {"A": "image", "B": "image"}, "/image")
    own = store(tmp_path, config)
    _, spec = resolve(replace(SPEC, command=()), own)
    assert (spec.command, spec.workdir, dict(spec.env)) == (("image",), "/image", {"A": "image", "B": "image"})
    _, spec = resolve(replace(SPEC, workdir="/", env={"B": "mine"}), own)
    assert (spec.command, spec.workdir, dict(spec.env)) == (("sh",), "/", {"A": "image", "B": "mine"})


@pytest.mark.parametrize(
    ("changes", "passwd", "why"),
    [
        ({"user": User("nobody")}, "", "nobody whom the image's /etc/passwd knows"),
        ({"user": User("www", "x")}, "www:x:33:34::/:\n", "none that the image's /etc/group knows"),
        ({"user": User("www")}, "www:x:4000000:0::/:\n", "user"),
        ({"user": User("www")}, "www:x:-1:0::/:\n", "user"),
        ({"user": User("www")}, "www:x:x:0::/:\nwww\n", "nobody whom"),
        ({"command": ()}, "", "neither in the definition nor in image small"),
        ({"root": Image("absent")}, "", "has not been built; fastcontainer container create"),
    ],
)
def test_is_refused(tmp_path: Path, changes: dict[str, object], passwd: str, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        resolve(replace(SPEC, **changes), store(tmp_path, passwd=passwd))  # type: ignore[arg-type]


def test_a_version_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(images.ImageError, match="has no version 'x'"):
        resolve(replace(SPEC, root=Image("small@x")), store(tmp_path))


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("make", [link, os.mkfifo, Path.mkdir])
def test_what_is_no_file_of_the_images_is_not_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    own = store(tmp_path)
    passwd = tmp_path / "small" / VERSION / "root/etc/passwd"
    passwd.unlink()
    make(passwd)
    with pytest.raises(SpecError, match="nobody whom"):
        resolve(replace(SPEC, user=User("root")), own)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("www", (33, 34)), ("www:adm", (33, 4)), ("www:0", (33, 0)), ("7", (7, None)), ("0:adm", (0, 4))],
)
def test_somebody_by_the_names_of_an_image(tmp_path: Path, words: str, expected: tuple[int, int | None]) -> None:
    assert named_user(words, store(tmp_path).get("small", VERSION).root) == expected


@pytest.mark.parametrize(("words", "field"), [("www:www", "group"), ("nobody-there", "user"), (":adm", "user")])
def test_nobody_by_that_name(tmp_path: Path, words: str, field: str) -> None:
    with pytest.raises(SpecError) as error:
        named_user(words, store(tmp_path).get("small", VERSION).root)
    assert error.value.field == field


def test_the_names_of_a_container_with_the_hosts_usr() -> None:
    assert named_user("app:nogroup", None) == (1000, 65534)
