"""A script that fills a root."""

from pathlib import Path

import pytest

from containerlib.bootstrap.shell import Shell
from containerlib.images import Bench
from containerlib.programs import ProgramError


@pytest.mark.system
def test_it_runs_in_the_root(root: Path, bench: Bench) -> None:
    Shell('mkdir etc; echo "$ROOT" > etc/where').build(root, bench)
    assert (root / "etc/where").read_text() == f"{root}\n"


@pytest.mark.system
def test_an_interpreter_of_its_own(root: Path, bench: Bench) -> None:
    Shell('#!/usr/bin/env -S awk -f\nBEGIN { print 6 * 7 > "answer" }\n').build(root, bench)
    assert (root / "answer").read_text() == "42\n"


@pytest.mark.system
def test_it_ends_at_its_first_failure(root: Path, bench: Bench) -> None:
    with pytest.raises(ProgramError, match=r"(?s)oh no.*correct the script of the shell bootstrap"):
        Shell("echo oh no; false\ntouch later").build(root, bench)
    assert list(root.iterdir()) == []


@pytest.mark.system
def test_a_mount_of_its_own_goes_with_it(root: Path, bench: Bench) -> None:
    Shell("mkdir -p proc; mount -t proc none proc; test -d proc/self; touch done").build(root, bench)
    assert (root / "done").exists() and list((root / "proc").iterdir()) == []


def test_the_recipe_is_the_script() -> None:
    assert Shell("a").recipe() == Shell("a", timeout_s=1).recipe() != Shell("b").recipe()


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match=r"Shell\.script ' ': must not be empty"):
        Shell(" ")
