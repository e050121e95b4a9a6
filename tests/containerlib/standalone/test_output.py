"""What a container writes, to files and terminals."""

import os
from pathlib import Path

import pytest

from containerlib.standalone.output import File, Output, Terminal
from tests.plugins.compute import until


def test_a_file_grows_to_its_limit_and_begins_anew(tmp_path: Path) -> None:
    file = File(f"{tmp_path}/log/out", 10)
    for piece in (b"12345", b"67890", b"abc", b"longer than all of it", b"d"):
        file.write(piece)
    file.close()
    assert (tmp_path / "log/out").read_bytes() == b"d"
    assert (tmp_path / "log/out.1").read_bytes() == b"longer than all of it"
    again = File(f"{tmp_path}/log/out", 10)
    again.write(b"e")
    again.close()
    assert (tmp_path / "log/out").read_bytes() == b"de"


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        File(f"{tmp_path}/out", 10)
    assert not (tmp_path / "victim").exists()


async def test_everything_arrives_to_the_end(tmp_path: Path) -> None:
    out, out_in = os.pipe2(os.O_NONBLOCK)
    err, err_in = os.pipe2(os.O_NONBLOCK)
    said: list[str] = []
    output = Output((out, err), (File(f"{tmp_path}/out", 1 << 20), File(f"{tmp_path}/err", 1 << 20)), said.append)
    os.write(out_in, b"first ")
    await until((tmp_path / "out").read_bytes)
    os.write(out_in, b"last")
    os.write(err_in, b"oops")
    output.close()
    assert ((tmp_path / "out").read_bytes(), (tmp_path / "err").read_bytes()) == (b"first last", b"oops")
    for fd in (out, out_in, err, err_in):
        os.close(fd)


def fill(file: File) -> None:
    with open("/dev/full", "wb") as disk:
        os.dup2(disk.fileno(), file._fd)


async def test_a_full_disk_does_not_stop_it_and_is_told_once(tmp_path: Path) -> None:
    out, out_in = os.pipe2(os.O_NONBLOCK)
    full, said = File(f"{tmp_path}/out", 1000), list[str]()
    kept = os.dup(full._fd)
    fill(full)
    output = Output((out,), (full,), said.append)
    for text in (b"lost", b"lost, too"):
        os.write(out_in, text)
        output._read(out)
    remedy = f"make room on its file system, then try again: '{tmp_path}/out'"
    assert said == [f"what it writes is lost: [Errno 28] No space left on device: {remedy}"]
    os.dup2(kept, full._fd)
    os.write(out_in, b"there is room")
    output.close()
    assert (tmp_path / "out").read_bytes() == b"there is room"
    for fd in (out, out_in, kept):
        os.close(fd)


def test_a_file_that_cannot_begin_anew_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = File(f"{tmp_path}/out", 10)
    file.write(b"12345")

    def no_inode(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_inode)
        with pytest.raises(OSError, match="No space"):
            file.write(b"678901")
    assert (tmp_path / "out").read_bytes() == b"12345" and not (tmp_path / "out.1").exists()
    os.fstat(file._fd)  # its number is not another file's by now
    file.write(b"678901")
    file.close()
    assert (tmp_path / "out").read_bytes() == b"678901"


def test_a_terminal_gets_all_of_it_and_its_end_is_no_error() -> None:
    reading, writing = os.pipe()
    Terminal(writing).write(b"x" * 1000)
    assert os.read(reading, 4096) == b"x" * 1000
    os.close(reading)
    Terminal(writing).write(b"nobody reads")
    os.close(writing)
