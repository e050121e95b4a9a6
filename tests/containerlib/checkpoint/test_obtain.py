"""Debian's package, fetched by this machine's own apt and unpacked."""

from pathlib import Path

import pytest

from containerlib.checkpoint import criu, obtain
from containerlib.checkpoint.criu import Unavailable

TARGETS = """\
Docker|bookworm|https://other.example/linux/debian/
Debian|bookworm-security|http://archive.example/debian-security/
Debian|bookworm-updates|http://archive.example/debian/
Debian|bookworm|http://archive.example/debian/
"""


def test_the_mirror_is_the_one_that_the_machine_uses() -> None:
    assert obtain.mirror(TARGETS) == "http://archive.example/debian"
    with pytest.raises(Unavailable, match="knows no archive of Debian"):
        obtain.mirror("Ubuntu|noble|http://archive.example/ubuntu/\n")


def test_apt_checks_against_debians_keys_and_touches_nothing_of_the_machines(tmp_path: Path) -> None:
    assert (
        obtain.source("http://archive.example/debian", "/k.gpg")
        == "deb [signed-by=/k.gpg] http://archive.example/debian sid main\n"
    )
    words = obtain.options(tmp_path)
    directories = [word for word in words if word.startswith(("Dir::State", "Dir::Cache", "Dir::Etc::sourcelist"))]
    assert len(directories) == 4
    assert all(str(tmp_path) in word for word in directories)


@pytest.mark.system
def test_what_quickstart_has_unpacked_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(_directory: Path) -> None:
        raise AssertionError("it was there already")

    monkeypatch.setattr(obtain, "_unpack", fetch)
    assert obtain.obtain() == criu.find({criu.VARIABLE: str(criu.UNPACKED)}).version


@pytest.mark.system
def test_without_an_archive_it_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(obtain, "mirror", lambda _targets: "http://127.0.0.1:9/debian")
    assert obtain.main([str(tmp_path / "criu")]) == 1
    assert "CRIU could not be fetched: apt-get ended with 100" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == [".criu.lock"]
