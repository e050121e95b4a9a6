"""The versioned /etc, from a host's /etc of our own."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from containerlib.bootstrap import usr
from containerlib.plan import user_files


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    etc = tmp_path / "etc"
    for name, text in {
        "localtime": "UTC",
        "mime.types": "text/html html",
        "ssl/openssl.cnf": "[default]",
        "ssl/certs/ca.pem": "cert",
        "ssl/private/host.key": "SECRET",
        "php/8.2/cli/php.ini": "a=1",
        "php/8.2/secret.ini": "password=SECRET",
        "apache2/apache2.conf": "x",
        "shadow": "root:SECRET",
        "passwd": "alice:x:1000",
        "fastcontainer/fastcontainer.toml": "SECRET",
    }.items():
        path = etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
    (etc / "php/8.2/secret.ini").chmod(0o640)
    (etc / "alternatives").mkdir()
    (etc / "alternatives/php").symlink_to("/usr/bin/php8.2")
    (etc / "apache2/mods").symlink_to("../mods")  # a link to a directory
    return etc


def contents(image: Path) -> dict[str, str]:
    found = {}
    for directory, subdirectories, files in os.walk(image):
        for name in [*files, *(each for each in subdirectories if (Path(directory) / each).is_symlink())]:
            path = Path(directory) / name
            found[str(path.relative_to(image))] = f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
    return found


USERS = user_files(1000)


@pytest.mark.parametrize(
    ("mapped", "users"),
    [(True, USERS), (False, {name: f"-> ../.fastcontainer/{name}" for name in USERS})],
)
def test_what_is_in_an_image(tmp_path: Path, etc: Path, mapped: bool, users: dict[str, str]) -> None:
    image = usr.build_etc(tmp_path / "images", etc, mapped=mapped)
    assert contents(image) == {
        "localtime": "UTC",
        "mime.types": "text/html html",
        "ssl/openssl.cnf": "[default]",
        "ssl/certs/ca.pem": "cert",
        "php/8.2/cli/php.ini": "a=1",
        "apache2/apache2.conf": "x",
        "apache2/mods": "-> ../mods",
        "alternatives/php": "-> /usr/bin/php8.2",
        **users,
        "hosts": "-> ../.fastcontainer/hosts",
        "hostname": "-> /proc/sys/kernel/hostname",
        "resolv.conf": usr.nameservers(),
        "shells": "/bin/sh\n/bin/bash\n",
    }


def test_no_secret_of_the_host_is_in_an_image(tmp_path: Path, etc: Path) -> None:
    image = usr.build_etc(tmp_path / "images", etc)
    assert "SECRET" not in str(contents(image))
    assert "alice" not in str(contents(image))


def test_everybody_may_read_an_image_whatever_the_umask(tmp_path: Path, etc: Path) -> None:
    old = os.umask(0o077)
    try:
        image = usr.build_etc(tmp_path / "images", etc)
    finally:
        os.umask(old)
    closed = [
        path for path in [image, *image.rglob("*")]
        if not path.is_symlink() and path.stat().st_mode & (0o005 if path.is_dir() else 0o004) == 0
    ]  # fmt: skip
    assert closed == []
    assert not any(path.stat().st_mode & 0o022 for path in image.rglob("*") if not path.is_symlink())


def names(images: Path) -> list[str]:
    return [each.name for each in images.iterdir() if each.name != ".lock"]


def test_the_same_host_gives_the_same_version_built_once(tmp_path: Path, etc: Path) -> None:
    image = usr.build_etc(tmp_path / "images", etc)
    before = image.stat().st_ctime_ns
    assert usr.build_etc(tmp_path / "images", etc) == image
    assert image.stat().st_ctime_ns == before
    assert names(tmp_path / "images") == [image.name]


def change_text(etc: Path) -> None:
    (etc / "mime.types").write_text("text/plain txt more")


def change_mode(etc: Path) -> None:
    (etc / "mime.types").chmod(0o755)


def hide(etc: Path) -> None:
    (etc / "mime.types").chmod(0o600)


def add(etc: Path) -> None:
    (etc / "php/8.2/cli/new.ini").write_text("b=2")


def relink(etc: Path) -> None:
    (etc / "alternatives/php").unlink()
    (etc / "alternatives/php").symlink_to("/usr/bin/php8.4")


@pytest.mark.parametrize("change", [change_text, change_mode, hide, add, relink])
def test_another_host_gives_another_version(tmp_path: Path, etc: Path, change: object) -> None:
    before = usr.fingerprint(etc)
    assert callable(change)
    change(etc)
    assert usr.fingerprint(etc) != before


def test_what_is_not_on_the_list_changes_nothing(tmp_path: Path, etc: Path) -> None:
    before = usr.fingerprint(etc)
    (etc / "shadow").write_text("root:ANOTHER")
    (etc / "php/8.2/secret.ini").write_text("password=another")
    assert usr.fingerprint(etc) == before


def test_two_builders_at_once(tmp_path: Path, etc: Path) -> None:
    images = tmp_path / "images"
    barrier = threading.Barrier(4)
    built: list[Path] = []

    def build() -> None:
        barrier.wait()
        built.append(usr.build_etc(images, etc))

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 4 and len(set(built)) == 1
    assert names(images) == [built[0].name]


def test_a_builder_that_died_leaves_no_half_image(tmp_path: Path, etc: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom containerlib.bootstrap import usr\n"
        "usr._copy = lambda source, target: os._exit(9)\nusr.build_etc(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    images = tmp_path / "images"
    done = subprocess.run([sys.executable, "-c", program, images, etc], check=False)
    assert done.returncode == 9
    image = usr.build_etc(images, etc)
    assert "localtime" in contents(image)
    assert names(images) == [image.name]


def test_unused_images_are_removed(tmp_path: Path, etc: Path) -> None:
    images = tmp_path / "images"
    usr.remove_unused(images, [])
    old = usr.build_etc(images, etc)
    change_text(etc)
    new = usr.build_etc(images, etc)
    assert old != new
    usr.remove_unused(images, [new.name])
    assert names(images) == [new.name]


def test_a_host_without_any_of_it_still_gives_an_image(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    image = usr.build_etc(tmp_path / "images", tmp_path / "empty")
    assert "shells" in contents(image)
