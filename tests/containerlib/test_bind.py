"""Mounts opened for a container, on the real kernel."""

import errno
import os
from pathlib import Path

import pytest

from containerlib import kernel
from containerlib.bind import BindMount, open_mount
from containerlib.handle import StartFailed

pytestmark = pytest.mark.system


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=r"mount source '.*/absent' does not exist on this host"):
        open_mount(BindMount(f"{tmp_path}/absent", "/data", readonly=False))


def test_a_link_that_a_tenant_made_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "uploads").symlink_to("/etc")
    os.chown(tmp_path / "uploads", 200_000, 200_000, follow_symlinks=False)
    with pytest.raises(StartFailed, match=r"mount source '.*/uploads'"):
        open_mount(BindMount(f"{tmp_path}/uploads", "/data", readonly=False))


@pytest.mark.parametrize("readonly", [True, False])
def test_a_mount_shows_its_source_and_is_as_writable_as_was_asked(tmp_path: Path, readonly: bool) -> None:
    (tmp_path / "index.html").write_text("hello")
    mount = open_mount(BindMount(str(tmp_path), "/data", readonly=readonly))
    try:
        place = Path(f"/proc/self/fd/{mount}")
        flags = os.statvfs(place).f_flag
        assert flags & os.ST_NOSUID and flags & os.ST_NODEV
        assert bool(flags & os.ST_RDONLY) is readonly
        assert (place / "index.html").read_text() == "hello"
    finally:
        os.close(mount)


def test_what_the_kernel_refuses_of_it_is_told_and_leaves_no_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor that is left fails the test."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "it is too old")

    monkeypatch.setattr(kernel, "mount_setattr", refuse)
    with pytest.raises(StartFailed, match=r"mount source '.*': it is too old"):
        open_mount(BindMount(str(tmp_path), "/data", readonly=False))
