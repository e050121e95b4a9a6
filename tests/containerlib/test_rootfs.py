"""A root made of an image, entered by a process in the user namespace that it was made for."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containerlib import idmap, kernel, rootfs
from containerlib.userns import UserNamespace, make_user_namespace

pytestmark = pytest.mark.system

BASE = 300_000
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="fc-"))
    place.chmod(0o755)
    image = place / "image"
    (image / "etc").mkdir(parents=True)
    for name, owner, mode in (("etc/secret", 0, 0o600), ("etc/www", 33, 0o600), ("etc/app", 1000, 0o600)):
        (image / name).write_text(name)
        (image / name).chmod(mode)
        os.chown(image / name, owner, owner)
    (image / "suid").write_text("x")
    (image / "suid").chmod(0o4755)
    (place / "stage").mkdir()
    yield place
    shutil.rmtree(place)


@pytest.fixture
def namespace() -> Iterator[UserNamespace]:
    namespace = make_user_namespace()
    for fd in (namespace.uid_map, namespace.gid_map):
        os.write(fd, idmap.map_text(BASE).encode())
    yield namespace
    namespace.close()


def by_either(image: Path, stage: Path, namespace: int | None) -> int:
    return rootfs.open_root(image, stage, size_bytes=1 << 20, inodes=100, owner=BASE + 1, mapped=namespace)


def by_path(image: Path, stage: Path, namespace: int | None) -> int:
    """As on a kernel whose overlays take no descriptors."""
    lower, upper = rootfs._lower(image, namespace), rootfs._upper(1 << 20, 100, BASE + 1)
    try:
        return rootfs._by_path(lower, upper, stage)
    finally:
        os.close(lower)
        os.close(upper)


WAYS = pytest.mark.parametrize("way", [by_either, by_path])
Way = Callable[[Path, Path, int | None], int]


def inside(root: int, namespace: UserNamespace, user: int, program: str) -> list[str]:
    """What a user of the namespace makes of the root, attached in a mount namespace of the child's own."""
    text = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from containerlib import kernel
from containerlib.operations import BecomeUser
def attempt(function, *arguments):
    try:
        return function(*arguments)
    except OSError as error:
        return error.strerror
os.unshare(os.CLONE_NEWNS)
kernel.mount("none", "/", "", kernel.MS_PRIVATE | kernel.MS_REC)
kernel.move_mount({root}, "/mnt")
os.setns({namespace.fd}, os.CLONE_NEWUSER)
BecomeUser({user}).execute()
os.chdir("/mnt")
{program}
"""
    fds = (root, namespace.fd)
    done = subprocess.run([sys.executable, "-SIc", text], capture_output=True, text=True, check=False, pass_fds=fds)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@WAYS
def test_what_belongs_to_root_on_disk_belongs_to_root_inside(way: Way, place: Path, namespace: UserNamespace) -> None:
    root = way(place / "image", place / "stage", namespace.fd)
    try:
        program = """
for name in ("etc/secret", "etc/www", "etc/app"):
    print(name, os.stat(name).st_uid, attempt(lambda: open(name).read()))
print(attempt(lambda: open("etc/secret", "a").write("!")), open("etc/secret").read())
print(attempt(os.mkdir, "new"), os.stat("new").st_uid, oct(os.stat(".").st_mode & 0o7777))
"""
        assert inside(root, namespace, 0, program) == [
            "etc/secret 0 etc/secret",
            "etc/www 33 Permission denied",
            "etc/app 1000 Permission denied",
            "1 etc/secret!",
            "None 0 0o755",
        ]
    finally:
        os.close(root)
    assert (place / "image/etc/secret").read_text() == "etc/secret"
    assert not (place / "image/new").exists()
    assert list((place / "stage").iterdir()) == []


@WAYS
def test_the_apps_user_owns_what_it_owned_on_disk_and_no_more(way: Way, place: Path, namespace: UserNamespace) -> None:
    root = way(place / "image", place / "stage", namespace.fd)
    try:
        program = """
print(attempt(lambda: open("etc/app").read()), attempt(lambda: open("etc/secret").read()), attempt(os.mkdir, "new"))
"""
        assert inside(root, namespace, 1000, program) == ["etc/app Permission denied Permission denied"]
    finally:
        os.close(root)


@WAYS
def test_the_layer_has_an_end(way: Way, place: Path, namespace: UserNamespace) -> None:
    root = way(place / "image", place / "stage", namespace.fd)
    try:
        program = """
print(attempt(lambda: open("large", "wb").write(bytes(2 << 20))))
os.unlink("large")
print(next(error for number in range(200) if (error := attempt(lambda: open(f"{number}", "w").close()))))
"""
        assert inside(root, namespace, 0, program) == ["No space left on device"] * 2
    finally:
        os.close(root)


def test_setuid_and_devices_do_not_work_in_it(place: Path, namespace: UserNamespace) -> None:
    root = by_either(place / "image", place / "stage", namespace.fd)
    try:
        program = """
options = open("/proc/self/mountinfo").read().split("/mnt ")[1].split()[0].split(",")
print(sorted({"nosuid", "nodev"} & set(options)))
"""
        assert inside(root, namespace, 0, program) == ["['nodev', 'nosuid']"]
    finally:
        os.close(root)


def test_without_user_namespaces_the_image_is_as_it_is_on_disk(place: Path) -> None:
    root = by_either(place / "image", place / "stage", None)
    try:
        assert os.stat("etc/www", dir_fd=root).st_uid == 33
        assert os.stat(".", dir_fd=root).st_uid == BASE + 1
    finally:
        os.close(root)


def test_what_a_predecessor_left_attached_is_cleared(place: Path, namespace: UserNamespace) -> None:
    (place / "stage/lower").mkdir()
    fd = rootfs._lower(place / "image", None)
    kernel.move_mount(fd, str(place / "stage/lower"))
    os.close(fd)
    os.close(by_path(place / "image", place / "stage", namespace.fd))
    assert list((place / "stage").iterdir()) == []


@pytest.mark.parametrize("mapped", [True, False])
def test_an_image_that_is_gone_is_an_error_and_leaves_no_descriptor(
    place: Path, namespace: UserNamespace, mapped: bool
) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    with pytest.raises(FileNotFoundError, match="absent"):
        by_either(place / "absent", place / "stage", namespace.fd if mapped else None)
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
