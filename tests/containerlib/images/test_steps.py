"""Provision steps on a small root."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from containerlib.images import Bench, Copy, Shell, Template
from containerlib.programs import ProgramError
from tests.plugins.images import Heard


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Shell("", "true"), "Shell.name '': must be 1 to 63"),
        (lambda: Shell("a/b", "true"), "Shell.name 'a/b': must be"),
        (lambda: Shell("a", " \n"), "Shell.script"),
        (lambda: Shell("a", "true", timeout_s=0), "Shell.timeout_s 0: must be a number of seconds above 0"),
        (lambda: Copy("a", Path("x"), "/x"), "Copy.source PosixPath('x'): must be an absolute path of the host"),
        (lambda: Copy("a", Path("/x"), "x"), "Copy.to 'x': must be an absolute path without '..'"),
        (lambda: Copy("a", Path("/x"), "/a/../../x"), "Copy.to"),
        (lambda: Copy("a", Path("/x"), "/x", owner="a b"), "Copy.owner 'a b': must be USER or USER:GROUP"),
        (lambda: Copy("a", Path("/x"), "/x", mode=0o10000), "Copy.mode 4096: must be from 0 to 0o7777"),
        (lambda: Template("a", "$b $c $d", "/x", {"c": ""}), "Template.values {'c': ''}: the text also needs: b, d"),
        (lambda: Template("a", "100$", "/x", {}), "Template.text '100$': a '$' must begin a name"),
        (lambda: Template("a", "", "x", {}), "Template.to"),
    ],
)
def test_what_is_wrong_is_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert words in str(caught.value)


def test_recipes(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("x")
    copies = (Copy("c", tmp_path / "tree", "/x"), Copy("c", tmp_path / "tree/file", "/x"))
    before = [copy.recipe() for copy in copies]
    assert [copy.recipe() for copy in copies] == before
    (tmp_path / "tree/file").chmod(0o600)
    assert all(copy.recipe() != old for copy, old in zip(copies, before, strict=True))
    assert Shell("a", "x").recipe() == Shell("a", "x", timeout_s=1).recipe() != Shell("a", "y").recipe()
    assert Template("a", "x", "/x", {"a": "1"}).recipe() != Template("a", "x", "/x", {"a": "2"}).recipe()


@pytest.mark.system
def test_a_script_by_the_images_shell_or_its_own_interpreter(busybox: Path, bench: Bench) -> None:
    Shell("s", "echo $HOME $DEBIAN_FRONTEND > /plain; false || echo $0 >> /plain", network=False).apply(busybox, bench)
    assert (busybox / "plain").read_text() == "/root noninteractive\n/run/.provision/script\n"
    Shell("s", "#!/bin/touch /own\nno shell reads this\n", network=False).apply(busybox, bench)
    assert (busybox / "own").exists()


@pytest.mark.system
def test_a_script_ends_at_its_first_failure(busybox: Path, bench: Bench) -> None:
    with pytest.raises(ProgramError, match="exited with code 1"):
        Shell("s", "false\ntouch /later", network=False).apply(busybox, bench)
    assert not (busybox / "later").exists()


@pytest.mark.system
def test_a_script_that_takes_too_long(busybox: Path, bench: Bench) -> None:
    with pytest.raises(ProgramError, match=r"did not end within 0\.5 s"):
        Shell("s", "sleep 1000", network=False, timeout_s=0.5).apply(busybox, bench)


@pytest.mark.system
def test_names_can_be_looked_up_with_the_network_only(busybox: Path, tmp_path: Path) -> None:
    heard = Heard()
    bench = Bench("box", "s", tmp_path, heard)
    script = "cat /etc/hosts; echo; cat /etc/resolv.conf | busybox wc -c"
    Shell("s", script, network=False).apply(busybox, bench)
    assert heard.lines[-2:] == ["127.0.0.1 box", "0"]
    Shell("s", script).apply(busybox, bench)
    assert not (busybox / "etc/hosts").exists() and not (busybox / "etc/resolv.conf").exists()


@pytest.mark.system
def test_a_copied_file(busybox: Path, bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0o640)
    Copy("c", tmp_path / "file", "/srv/deep/file", owner="web:web").apply(busybox, bench)
    info = (busybox / "srv/deep/file").stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (4711, 4712, 0o640)
    Copy("c", tmp_path / "file", "/srv/deep/file", owner="7", mode=0o4755).apply(busybox, bench)
    info = (busybox / "srv/deep/file").stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (7, 0, 0o4755)


@pytest.mark.system
def test_a_copied_tree(busybox: Path, bench: Bench, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "below/file").write_text("x")
    (tree / "link").symlink_to("below/file")
    tree.chmod(0o700)
    (busybox / "srv").mkdir(mode=0o751)
    (busybox / "srv/there").write_text("stays")
    Copy("c", tree, "/srv", owner="7:8", mode=0o600).apply(busybox, bench)
    assert (busybox / "srv/link").read_text() == "x" and (busybox / "srv/there").read_text() == "stays"
    assert stat.S_IMODE((busybox / "srv/below").stat().st_mode) == 0o755
    assert (stat.S_IMODE((busybox / "srv").stat().st_mode), (busybox / "srv").stat().st_uid) == (0o751, 0)
    assert stat.S_IMODE((busybox / "srv/below/file").stat().st_mode) == 0o600
    assert {path.lstat().st_uid for path in (busybox / "srv/below", busybox / "srv/link")} == {7}


@pytest.mark.system
def test_a_template(busybox: Path, bench: Bench) -> None:
    values = {"port": "80", "unused": ""}
    Template("t", "listen $port; # ${port} $$HOME\n", "/etc/x.conf", values, owner="web", mode=0o600).apply(
        busybox, bench
    )
    assert (busybox / "etc/x.conf").read_text() == "listen 80; # 80 $HOME\n"
    info = (busybox / "etc/x.conf").stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (4711, 0, 0o600)


@pytest.mark.system
def test_nothing_is_written_out_of_the_root(busybox: Path, bench: Bench, tmp_path: Path) -> None:
    """The image is a tenant's, and its /srv leads to the host."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("whole")
    (busybox / "srv").symlink_to(outside)
    (busybox / "file").symlink_to(outside / "file")
    Template("t", "x", "/file", {}).apply(busybox, bench)
    with pytest.raises(ProgramError):
        Template("t", "x", "/srv/new", {}).apply(busybox, bench)
    with pytest.raises(ProgramError):
        Copy("c", outside / "file", "/srv/copy").apply(busybox, bench)
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("file", "whole")]


@pytest.mark.system
def test_a_user_that_the_image_does_not_have(busybox: Path, bench: Bench) -> None:
    with pytest.raises(ProgramError, match="owner 'nobody-here' is not in the root's /etc/passwd"):
        Template("t", "x", "/x", {}, owner="nobody-here").apply(busybox, bench)
