"""Files that are there whole or not at all."""

import errno
from pathlib import Path

import pytest

from containerlib import kernel
from containerlib.whole import no_room, write_whole


def test_what_was_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, b"one")
    write_whole(path, b"two", 0o600)
    assert path.read_bytes() == b"two" and path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.system
def test_a_full_disk_leaves_what_was_there_and_names_it_with_the_remedy(tmp_path: Path) -> None:
    kernel.mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=64k")
    try:
        path = tmp_path / "a.json"
        write_whole(path, b"one")
        with pytest.raises(OSError, match=f"make room on its file system, then try again: '{path}'") as refused:
            write_whole(path, bytes(1 << 20))
        assert refused.value.errno == errno.ENOSPC
        assert path.read_bytes() == b"one" and list(tmp_path.iterdir()) == [path]
    finally:
        kernel.umount2(str(tmp_path), 0)


def test_another_error_is_left_as_it_is(tmp_path: Path) -> None:
    error = PermissionError(errno.EACCES, "no", "/x")
    assert no_room(error, tmp_path) is error
