"""Which image a container begins with."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from containerlib.checkpoint import images
from containerlib.checkpoint.images import NoImage
from containerlib.handle import StartFailed
from containerlib.spec import Checkpoint, ContainerSpec, Seccomp, Security
from containerlib.standalone import checkpointing
from containerlib.standalone.places import Record, Settings
from tests.containerlib.checkpoint.test_images import MANIFEST

SPEC = ContainerSpec("web", ("php",), checkpoint=Checkpoint())
RECORD = Record("web", "starting", 1, "10.0.0.0/28", 2, 300_000, "group", 0.0)


def made(directory: Path, **changes: object) -> images.Image:
    right = {"definition": images.digest(SPEC), "kernel": os.uname().release, "criu": "4.2.1"}
    with images.making(directory) as fresh:
        return images.keep(fresh, dataclasses.replace(MANIFEST, **{**right, **changes}))  # type: ignore[arg-type]


def criu(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = directory / "criu"
    program.write_text("#!/bin/sh\necho Version: 4.2.1\n")
    program.chmod(0o755)
    monkeypatch.setenv("FASTCONTAINER_CRIU", str(program))


def test_the_newest_of_its_own_or_the_one_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    criu(tmp_path, monkeypatch)
    place = checkpointing.directory(Settings(state_dir=tmp_path), "web")
    image = made(place)
    assert checkpointing.choose(SPEC, RECORD, place)[1] == image
    assert checkpointing.choose(SPEC, RECORD, image.directory)[1] == image


def test_a_changed_list_of_system_calls_is_another_definition(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    spec = dataclasses.replace(SPEC, security=Security(seccomp=Seccomp(str(profile))))
    digests = set()
    for name in ("mkdir", "rmdir"):
        rule = {"names": [name], "action": "SCMP_ACT_ALLOW"}
        profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}))
        digests.add(checkpointing.definition(spec))
    profile.unlink()
    with pytest.raises(StartFailed, match=r"its list of system calls cannot be had"):
        checkpointing.definition(spec)
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": "other"}, "is an image of other, not of web"),
        ({"definition": "old"}, "its definition has changed since"),
        ({"base": 5}, "its user ids begin at 5"),
    ],
)
def test_one_that_is_not_its_own_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], why: str
) -> None:
    criu(tmp_path, monkeypatch)
    made(tmp_path / "images", **changes)
    with pytest.raises(NoImage, match=why):
        checkpointing.choose(SPEC, RECORD, tmp_path / "images")
