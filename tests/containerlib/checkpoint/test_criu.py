"""Which CRIU is found, and what is made of its log."""

import asyncio
import time
from pathlib import Path

import pytest

from containerlib import process
from containerlib.checkpoint import criu
from containerlib.checkpoint.criu import CriuFailed, Unavailable


def program(directory: Path, text: str, name: str = "criu") -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("says", "rule"),
    [
        ("echo Version: 4.1.1", "is 4.1.1, and 4.2 is needed"),
        ("echo Version: 3.17.1", "is 3.17.1"),
        ("exit 1", "is no CRIU that runs"),
        ("echo hello", "is no CRIU that runs"),
    ],
)
def test_one_that_is_too_old_or_none_is_refused_with_a_remedy(tmp_path: Path, says: str, rule: str) -> None:
    with pytest.raises(Unavailable, match=rule) as refused:
        criu.find({"FASTCONTAINER_CRIU": str(program(tmp_path, says))})
    assert "./quickstart" in str(refused.value)


def test_one_that_is_named_and_new_enough_is_taken(tmp_path: Path) -> None:
    path = program(tmp_path, "echo Version: 4.10; echo GitID: x")
    assert criu.find({"FASTCONTAINER_CRIU": str(path)}) == criu.Criu((str(path),), "4.10")


def test_the_one_in_the_path_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(criu, "UNPACKED", tmp_path / "none")
    path = program(tmp_path, "echo Version: 4.2.1")
    assert criu.find({"PATH": f"{tmp_path}:/bin"}).command == (str(path),)
    with pytest.raises(Unavailable, match=r"no CRIU in .*/none or in PATH"):
        criu.find({"PATH": "/nowhere"})


def test_unpacked_packages_are_started_by_their_own_loader(tmp_path: Path) -> None:
    assert criu.unpacked_command(tmp_path) is None
    for name in ("usr/sbin/criu", "usr/lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/libc.so.6"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert criu.unpacked_command(tmp_path) == (
        f"{tmp_path}/usr/lib64/ld-linux-x86-64.so.2",
        "--library-path",
        f"{tmp_path}/usr/lib/x86_64-linux-gnu",
        f"{tmp_path}/usr/sbin/criu",
    )


LOG = """\
(00.000100) Version: 4.2.1
(00.011000) Error (criu/util.c:10): Can't get rlimit 0: Operation not permitted
(00.012345)      1: Error (criu/files-reg.c:2143): File usr/bin/python3.11 has bad size 10 (expect 20)
(00.012400) Warn  (criu/x.c:1): nothing
(00.013000) Error (criu/cr-restore.c:2324): Restoring FAILED.
"""


async def test_one_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    hanging = criu.Criu((str(program(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/pid; wait")),), "4.2")
    began = time.monotonic()
    with pytest.raises(CriuFailed, match=r"criu dump took longer than 0.5 s"):
        await criu.run(hanging, ("dump",), tmp_path / "log", 0.5)
    assert time.monotonic() - began < 10
    started = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while process.start_time(started) is not None:
        assert time.monotonic() < deadline, "what it started lives on"
        await asyncio.sleep(0.005)


async def test_one_that_fails_tells_what_its_log_says(tmp_path: Path) -> None:
    log = tmp_path / "log"
    failing = criu.Criu((str(program(tmp_path, f"cat > {log} <<'X'\n{LOG}X\nexit 1")),), "4.2")
    with pytest.raises(CriuFailed, match=r"criu restore ended with 1: File usr/bin/python3.11 has bad size"):
        await criu.run(failing, ("restore",), log, 5)


@pytest.mark.system
def test_the_real_one_works_here() -> None:
    """Never skipped as root: where it is missing, quickstart has said why."""
    found = criu.find()
    assert criu.check(found) == ""
