"""What a container sees as its files."""

import pytest

from containerlib.checks import SpecError
from containerlib.spec.filesystem import Hidden, Image, Mount, Tmpfs, Usr


class Builds:
    def build(self) -> None: ...


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Image("../etc"), "is not the name of an image"),
        (lambda: Image("blog@"), "is not the name of an image"),
        (lambda: Image("a b"), "is not the name of an image"),
        (lambda: Image("php", "debootstrap"), "'debootstrap' is no bootstrap: it has no build"),
        (lambda: Image("php", Builds(), (Builds(),)), "is no step: it has no apply"),
        (lambda: Image("php", None, (Builds(),)), "has steps, but nothing that they are done to"),
        (lambda: Image("php@3", Builds()), "names a version of what is yet to be built"),
        (lambda: Mount("data", "/srv"), "mount.source: 'data' is not an absolute path"),
        (lambda: Mount("/data", "/srv/../etc"), "mount.target: '/srv/../etc' is not an absolute path"),
        (lambda: Mount("/data", "/"), "mount.target: '/' is the root itself"),
        (lambda: Mount("/data", "/proc/sys"), "mount.target: '/proc/sys' is the root itself, or in /proc"),
        (lambda: Mount("/data", "/./dev"), "mount.target: '/./dev' is"),
        (lambda: Mount("/data", "/srv", readonly="no"), "mount.readonly: 'no' is not True or False"),
        (lambda: Tmpfs("/sys"), "tmpfs.target: '/sys' is"),
        (lambda: Tmpfs("/cache", size_bytes=10), "tmpfs.size: 10 is not from"),
        (lambda: Tmpfs("/cache", mode=0o4755), "tmpfs.mode: 2541 is not from"),
        (lambda: Hidden(masked=("proc/x",)), "masked: 'proc/x' is not an absolute path"),
        (lambda: Hidden(readonly=("x",)), "readonly: 'x' is not an absolute path"),
    ],
)
def test_is_refused(make, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        make()


@pytest.mark.parametrize("reference", ["blog", "php8.3", "blog@20260101-1"])
def test_names_of_images(reference: str) -> None:
    assert Image(reference).describe() == f"image {reference}"


def test_the_hosts_usr_names_itself() -> None:
    assert Usr().describe() == "usr"


def test_a_mount_may_lie_in_etc_and_var() -> None:
    assert Mount("/data", "/etc/app").target == "/etc/app"
    assert Mount("/data", "/development").target == "/development"
