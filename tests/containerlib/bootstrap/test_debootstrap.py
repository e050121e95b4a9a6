"""Debian from its packages: a small one each time, and with FASTCONTAINER_LONG=1 one in which apt then installs."""

import os
import platform
from pathlib import Path

import pytest

from containerlib.bootstrap.debootstrap import Debootstrap
from containerlib.images import Bench, ImageError, Shell, Store, build, contents

LONG = bool(os.environ.get("FASTCONTAINER_LONG"))
SUITE = platform.freedesktop_os_release()["VERSION_CODENAME"]


@pytest.mark.system
def test_from_where_the_host_has_its_own(root: Path, bench: Bench) -> None:
    assert Debootstrap(SUITE, ("busybox-static",), "extract").build(root, bench) is None
    assert os.access(next(path for path in (root / "bin/busybox", root / "usr/bin/busybox") if path.exists()), os.X_OK)
    assert contents.devices(root) == []
    assert not (root / "etc/hostname").exists() and not (root / "etc/resolv.conf").exists()


@pytest.mark.system
def test_what_cannot_be_had_is_told_with_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    nowhere = Debootstrap(SUITE, mirror=f"file://{tmp_path}/absent")
    with pytest.raises(
        ImageError, match=r"(?s)mmdebstrap exited with code.*E: .*check the names of the suite and packages"
    ):
        build(store, "box", nowhere)
    with pytest.raises(ImageError, match=r"suite 'no-such-suite' is not in this host's apt sources .*: name a mirror"):
        build(store, "box", Debootstrap("no-such-suite"))
    assert store.revisions("box") == []


SHORT = (
    "extract",
    ("busybox-static",),
    "#!/bin/busybox sh\n/bin/busybox mkdir -p /usr/sbin\n/bin/busybox touch /usr/sbin/sudo /usr/sbin/apache2\n",
)
WHOLE = (
    "apt",
    (),
    "apt-get update -q\napt-get install -y -q --no-install-recommends apache2 postgresql sudo openssh-server\n"
    "test $(stat -c %U /var/lib/postgresql) = postgres\ntest -u /usr/bin/sudo\n! pidof apache2 postgres\n",
)


@pytest.mark.system
@pytest.mark.timeout(600)
def test_a_script_runs_in_it(tmp_path: Path) -> None:
    """At full length apt installs servers with users of their own and setuid programs, and starts none."""
    variant, packages, script = WHOLE if LONG else SHORT
    store = Store(tmp_path / "store")
    image = build(store, "box", Debootstrap(SUITE, packages, variant), (Shell("install", script),))
    assert (image.root / "usr/sbin/apache2").exists()
    assert not (image.root / "usr/sbin/policy-rc.d").exists()


def test_the_recipe_is_all_that_apt_is_told() -> None:
    mirror = "http://deb.example.org/debian"
    some = Debootstrap("bookworm", ("a1",), mirror=mirror)
    assert some.recipe() == Debootstrap("bookworm", ("a1",), mirror=mirror, timeout_s=1).recipe()
    others = [
        Debootstrap("trixie", ("a1",), mirror=mirror),
        Debootstrap("bookworm", ("a2",), mirror=mirror),
        Debootstrap("bookworm", ("a1",), "apt", mirror=mirror),
        Debootstrap("bookworm", ("a1",), mirror="http://other.example.org/debian"),
        Debootstrap("bookworm", ("a1",), mirror=mirror, components=("main", "contrib")),
    ]
    assert some.recipe() not in {other.recipe() for other in others}


def test_a_mirror_takes_the_place_of_the_hosts_sources() -> None:
    strategy = Debootstrap("bookworm", mirror="http://deb.example.org/debian", components=("main", "contrib"))
    assert strategy.sources() == "deb http://deb.example.org/debian bookworm main contrib\n"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"suite": "--help"}, "Debootstrap.suite '--help': must be a suite's name"),
        ({"packages": ("php", "a,b")}, "Debootstrap.packages ('php', 'a,b'): must be package names"),
        ({"packages": ("?essential",)}, "Debootstrap.packages"),
        ({"variant": "tiny"}, "Debootstrap.variant 'tiny': must be one of extract, essential"),
        ({"mirror": "deb [trusted=yes] http://x"}, "Debootstrap.mirror"),
        ({"components": ()}, "Debootstrap.components (): must be names as 'main', at least one"),
        ({"timeout_s": -1}, "Debootstrap.timeout_s -1"),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        Debootstrap(**{"suite": "bookworm", **more})  # type: ignore[arg-type]
    assert words in str(caught.value)
