"""Mounts opened for a container, on the real kernel."""

import os
from pathlib import Path

import pytest

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
