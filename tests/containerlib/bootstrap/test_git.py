"""The files of a commit, from a repository of the test's own."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from containerlib.bootstrap.git import Git, choose
from containerlib.images import Bench, Store, build
from containerlib.programs import ProgramError

A, B, C = ("a" * 40, "b" * 40, "c" * 40)

Commit = Callable[[str], str]


def git(directory: Path, *words: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *identity, *words], cwd=directory, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init")
    return repository


@pytest.fixture
def commit(repository: Path) -> Commit:
    def commit(text: str) -> str:
        (repository / "etc").mkdir(exist_ok=True)
        (repository / "etc/hosts").write_text(text)
        git(repository, "add", "-A")
        git(repository, "commit", "-m", text)
        return git(repository, "rev-parse", "HEAD")

    return commit


@pytest.mark.system
def test_a_branch_a_tag_and_a_commit(repository: Path, commit: Commit, bench: Bench, tmp_path: Path) -> None:
    first = commit("first")
    git(repository, "tag", "light")
    git(repository, "tag", "-a", "-m", "x", "v1")
    second = commit("second")
    git(repository, "branch", "side")
    third = commit("third")
    wanted = {
        "HEAD": third,
        "main": third,
        "side": second,
        "light": first,
        "v1": first,
        "refs/heads/side": second,
        first: first,
    }
    for number, (ref, expected) in enumerate(wanted.items()):
        strategy = Git(str(repository), ref)
        assert strategy.commit() == expected, ref
        root = tmp_path / str(number)
        root.mkdir()
        strategy.build(root, bench)
        assert (root / "etc/hosts").read_text() == {first: "first", second: "second", third: "third"}[expected]
        assert [path.name for path in root.iterdir()] == ["etc"]


@pytest.mark.system
def test_a_branch_that_moved_makes_a_new_version(repository: Path, commit: Commit, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    commit("first")
    one = build(store, "box", Git(f"file://{repository}"))
    assert build(store, "box", Git(f"file://{repository}")) == one
    commit("second")
    two = build(store, "box", Git(f"file://{repository}"))
    assert two != one and (two.root / "etc/hosts").read_text() == "second"


@pytest.mark.system
def test_a_hook_of_the_hosts_configuration_does_not_run(
    repository: Path, commit: Commit, bench: Bench, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit("first")
    (tmp_path / "hooks").mkdir()
    hook = tmp_path / "hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    (tmp_path / ".gitconfig").write_text(f"[core]\nhooksPath = {tmp_path}/hooks\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    Git(str(repository)).build(root, bench)
    assert (root / "etc/hosts").exists() and not (tmp_path / "ran").exists()


@pytest.mark.system
def test_what_is_not_there(repository: Path, commit: Commit, tmp_path: Path) -> None:
    commit("first")
    with pytest.raises(LookupError, match="has no branch or tag 'absent'"):
        Git(str(repository), "absent").recipe()
    with pytest.raises(ProgramError, match=f"check that git can reach {tmp_path}/absent"):
        Git(str(tmp_path / "absent")).recipe()


def test_a_whole_commit_id_is_not_looked_up() -> None:
    assert Git("https://nowhere.invalid/x.git", A).commit() == A


@pytest.mark.parametrize(
    ("listing", "ref", "commit"),
    [
        (f"{A}\tHEAD\n{B}\trefs/remotes/origin/HEAD", "HEAD", A),
        (f"{A}\trefs/heads/v1\n{B}\trefs/tags/v1", "v1", A),
        (f"{B}\trefs/tags/v1\n{C}\trefs/tags/v1^{{}}", "v1", C),
        (f"{A}\trefs/heads/feature/v1", "v1", None),  # ls-remote compares from the end
        (f"{A}\trefs/heads/x", "refs/heads/x", A),
        (f"{A}\trefs/heads/x", "heads/x", A),
        ("", "x", None),
    ],
)
def test_which_commit_is_meant(listing: str, ref: str, commit: str | None) -> None:
    assert choose(listing, ref) == commit


@pytest.mark.parametrize(
    ("url", "ref", "words"),
    [
        ("", "HEAD", "Git.url '': must be a URL"),
        ("--upload-pack=x", "HEAD", "Git.url '--upload-pack=x': must be a URL"),
        ("/x", "--exec", "Git.ref '--exec': must be a branch"),
        ("/x", "a..b", "Git.ref 'a..b': must be a branch"),
    ],
)
def test_what_is_wrong_is_named(url: str, ref: str, words: str) -> None:
    with pytest.raises(ValueError, match="Git") as caught:
        Git(url, ref)
    assert words in str(caught.value)


def test_a_password_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="must hold no password") as caught:
        Git("https://me:secret@example.com/x.git")
    assert "secret" not in str(caught.value)
