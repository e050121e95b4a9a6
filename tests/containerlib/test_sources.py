"""Whose links lead to a mount's source."""

import os
from pathlib import Path

import pytest

from containerlib import sources
from containerlib.sources import open_source


def opened(path: str | Path) -> os.stat_result:
    fd = open_source(str(path))
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "pool/blog").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "pool/link").symlink_to("blog")
    (tmp_path / "absolute").symlink_to(tmp_path / "pool/link/../blog")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "pool/blog/uploads").symlink_to(tmp_path / "secret")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("pool/blog", "pool/blog"),
        ("pool//./blog/", "pool/blog"),
        ("pool/link", "pool/blog"),
        ("absolute", "pool/blog"),
        ("file", "file"),
        ("pool/blog/uploads", "secret"),  # its owner's own link: root's, or a person's
    ],
)
def test_links_of_people_are_followed(tree: Path, path: str, leads_to: str) -> None:
    assert os.path.samestat(opened(f"{tree}/{path}"), (tree / leads_to).stat())


def test_a_link_that_a_container_made_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CONTAINER_UIDS_FROM", os.getuid())
    assert os.path.samestat(opened(tree / "pool/blog"), (tree / "pool/blog").stat())
    with pytest.raises(PermissionError, match=f"'uploads' in it is a link that user {os.getuid()} made"):
        open_source(f"{tree}/pool/blog/uploads")


@pytest.mark.parametrize(
    ("path", "error"),
    [("absent/x", FileNotFoundError), ("file/x", NotADirectoryError), ("loop", PermissionError)],
)
def test_what_leads_nowhere_is_an_error_and_leaves_nothing_open(tree: Path, path: str, error: type[OSError]) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    with pytest.raises(error):
        open_source(f"{tree}/{path}")
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
