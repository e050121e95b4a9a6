import os
from pathlib import Path

import pytest

from dispatcher.userlb.beneath import open_file


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "mount"
    for directory in ("css/deep", "private"):
        (root / directory).mkdir(parents=True)
    (root / "robots.txt").write_text("robots")
    (root / "css/site.css").write_text("css")
    (root / "private/key").write_text("secret")
    (root / "css/same").symlink_to("site.css")
    (root / "css/deep/up").symlink_to("../site.css")
    (root / "css/out").symlink_to("../private/key")
    (root / "css/far").symlink_to("../../secret")
    (root / "css/root").symlink_to(tmp_path / "secret")
    (root / "css/magic").symlink_to("/proc/self/root/etc/passwd")
    (root / "css/loop").symlink_to("loop")
    (root / "linked.txt").symlink_to("robots.txt")
    (root / "styles").symlink_to("css")
    os.mkfifo(root / "css/fifo")
    return root


@pytest.mark.parametrize(
    ("path", "tree", "text"),
    [
        ("robots.txt", "", "robots"),
        ("css/site.css", "css/", "css"),
        ("css/same", "css/", "css"),
        ("css/deep/up", "css/", "css"),
        ("css/site.css", "/", "css"),  # the whole mount is the tree
        ("css/out", "/", "secret"),
        ("css/out", "css/", None),
        ("css/far", "css/", None),
        ("css/far", "/", None),
        ("css/root", "css/", None),
        ("css/magic", "css/", None),
        ("css/loop", "css/", None),
        ("css/fifo", "css/", None),
        ("css/deep", "css/", None),
        ("css/../private/key", "css/", None),
        ("../secret", "", None),
        ("/etc/passwd", "", None),
        ("linked.txt", "", None),
        ("styles/site.css", "styles/", None),
        ("none", "", None),
        ("robots.txt/x", "", None),
    ],
)
def test_what_is_opened(mount: Path, path: str, tree: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(OSError):
            open_file(str(mount), path, tree=tree)
        return
    file = open_file(str(mount), path, tree=tree)
    try:
        assert Path(f"/proc/self/fd/{file}").read_text() == text
    finally:
        os.close(file)


def test_a_mount_that_is_reached_by_a_link_is_none(mount: Path) -> None:
    (mount.parent / "link").symlink_to(mount)
    with pytest.raises(OSError):
        open_file(str(mount.parent / "link"), "robots.txt")
