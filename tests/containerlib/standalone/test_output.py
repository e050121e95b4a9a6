"""What a container writes, to files and terminals."""

import asyncio
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
    output = Output((out, err), (File(f"{tmp_path}/out", 1 << 20), File(f"{tmp_path}/err", 1 << 20)))
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


async def test_a_full_disk_does_not_stop_it(tmp_path: Path) -> None:
    out, out_in = os.pipe2(os.O_NONBLOCK)
    full = File(f"{tmp_path}/out", 10)
    fill(full)
    output = Output((out,), (full,))
    os.write(out_in, b"lost")
    await asyncio.sleep(0)
    output.close()
    os.close(out)
    os.close(out_in)


def test_a_terminal_gets_all_of_it_and_its_end_is_no_error() -> None:
    reading, writing = os.pipe()
    Terminal(writing).write(b"x" * 1000)
    assert os.read(reading, 4096) == b"x" * 1000
    os.close(reading)
    Terminal(writing).write(b"nobody reads")
    os.close(writing)
