"""A life's output on its way from a pipe to files of bounded size."""

import asyncio
import os
import select
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dispatcher.compute import logs
from dispatcher.compute.logs import LifeLog
from tests.plugins.compute import until


class Pipes:
    def __init__(self, directory: Path) -> None:
        self.out, self.err = os.pipe(), os.pipe()
        for reader, _ in (self.out, self.err):
            os.set_blocking(reader, False)
        self.log = LifeLog(directory, "1.1", (self.out[0], self.err[0]), lambda: "T")
        self.path = directory / "1.1.log"
        self.log.follow()
        self.closed = False

    def end(self) -> None:
        """The program dies."""
        os.close(self.out[1])
        os.close(self.err[1])
        self.close()

    def close(self) -> None:
        self.log.close()
        self.closed = True


@pytest.fixture
async def pipes(tmp_path: Path) -> AsyncIterator[Pipes]:
    pipes = Pipes(tmp_path / "blog")
    yield pipes
    if not pipes.closed:
        pipes.end()
    for fd in (pipes.out[0], pipes.err[0]):
        os.close(fd)


async def test_lines_of_both_streams_are_stamped(pipes: Pipes) -> None:
    os.write(pipes.out[1], b"one\ntwo\n")
    await until(lambda: pipes.path.stat().st_size > 0)
    os.write(pipes.err[1], b"oops\n")
    pipes.end()
    assert pipes.path.read_bytes() == b"T out one\nT out two\nT err oops\n"
    assert list(pipes.log.tail) == ["one", "two", "oops"]


async def test_a_line_that_comes_in_pieces_is_one_line(pipes: Pipes) -> None:
    for piece in (b"a", b"b\nc", b"d\n"):
        os.write(pipes.out[1], piece)
        await asyncio.sleep(0)
    pipes.end()
    assert pipes.path.read_bytes() == b"T out ab\nT out cd\n"


async def test_the_end_takes_along_what_was_not_read_yet_and_has_no_newline(pipes: Pipes) -> None:
    os.write(pipes.out[1], b"x\n" * 20_000 + b"last words")
    pipes.end()
    lines = pipes.path.read_bytes().splitlines()
    assert len(lines) == 20_001
    assert lines[-1] == b"T out last words"
    assert pipes.log.tail[-1] == "last words"


async def test_a_line_without_end_is_cut_into_several_and_none_of_it_is_lost(pipes: Pipes) -> None:
    text = bytes(range(33, 120)) * 600
    for first in range(0, len(text), 4096):
        os.write(pipes.out[1], text[first : first + 4096])
        await asyncio.sleep(0)
    pipes.end()
    parts = [line.removeprefix(b"T out ") for line in pipes.path.read_bytes().splitlines()]
    assert max(map(len, parts)) <= logs.LINE_BYTES_MAX
    assert b"".join(parts) == text


async def test_a_long_line_that_comes_at_once_loses_nothing_either(pipes: Pipes) -> None:
    text = b"y" * (logs.LINE_BYTES_MAX + 100)
    os.write(pipes.out[1], text + b"\nnext\n")
    pipes.end()
    parts = [line.removeprefix(b"T out ") for line in pipes.path.read_bytes().splitlines()]
    assert b"".join(parts) == text + b"next"


async def test_binary_output_stands_as_it_is_and_its_tail_is_text(pipes: Pipes) -> None:
    os.write(pipes.out[1], b"\xff\x00\x1b[31m\n")
    pipes.end()
    assert pipes.path.read_bytes() == b"T out \xff\x00\x1b[31m\n"
    assert pipes.log.tail[0].startswith("\ufffd")


async def test_the_tail_is_bounded(pipes: Pipes) -> None:
    os.write(pipes.out[1], b"".join(b"%d" % number + b"z" * 1000 + b"\n" for number in range(20)))
    pipes.end()
    assert len(pipes.log.tail) == logs.TAIL_LINES
    assert max(map(len, pipes.log.tail)) == 300
    assert pipes.log.tail[-1].startswith("19")


async def test_output_is_bounded_by_rotation(pipes: Pipes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LIFE_BYTES_MAX", 1000)
    for number in range(300):
        os.write(pipes.out[1], b"line %03d\n" % number)
        await asyncio.sleep(0)
        await until(lambda last=f"line {number:03d}": list(pipes.log.tail)[-1:] == [last])
    pipes.end()
    files = sorted(pipes.path.parent.iterdir())
    assert [file.name for file in files] == ["1.1.log", "1.1.log.1", "1.1.log.2"]
    assert all(file.stat().st_size <= 1000 for file in files)
    kept = b"".join(file.read_bytes() for file in reversed(files)).splitlines()
    assert kept == [b"T out line %03d" % number for number in range(300 - len(kept), 300)]


async def test_a_program_that_closes_its_output_costs_no_cpu(pipes: Pipes) -> None:
    os.close(pipes.out[1])
    loop = asyncio.get_running_loop()
    await until(lambda: not loop.remove_reader(pipes.out[0]))
    os.write(pipes.err[1], b"still here\n")
    await until(lambda: bool(pipes.log.tail))
    os.close(pipes.err[1])
    pipes.close()
    assert pipes.path.read_bytes() == b"T err still here\n"


async def test_a_full_disk_takes_nobody_down(pipes: Pipes, caplog: pytest.LogCaptureFixture) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, pipes.log._file)
    os.close(full)
    os.write(pipes.out[1], b"lost\n")
    pipes.end()
    assert "No space left" in caplog.text


async def test_a_rotation_that_fails_keeps_the_file_that_is_open(
    pipes: Pipes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "LIFE_BYTES_MAX", 10)
    before = pipes.log._file
    pipes.log._path = pipes.path.parent / "absent" / "1.1.log"
    os.write(pipes.out[1], b"more than ten bytes\n")
    await until(lambda: "absent" in caplog.text)
    assert pipes.log._file == before
    assert os.fstat(before).st_ino == pipes.path.stat().st_ino
    pipes.end()


@pytest.fixture
async def flooded(tmp_path: Path) -> AsyncIterator[LifeLog]:
    """Somebody writes empty lines, which cost most, for as long as they are read."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    quiet = os.open("/dev/null", os.O_RDONLY)
    log = LifeLog(tmp_path / "blog", "1.1", (reader, quiet), lambda: "T" * 27)
    with subprocess.Popen(["yes", ""], stdout=writer, stderr=subprocess.DEVNULL):  # noqa: ASYNC220
        os.close(writer)
        await until(lambda: select.select([reader], [], [], 0)[0])
        yield log
        os.close(reader)
    os.close(quiet)


async def test_a_flood_of_output_waits_in_its_pipe_and_goes_on(
    flooded: LifeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "BURST_S", 0.02)
    monkeypatch.setattr(logs, "RATE_BYTES_PER_S", 8 << 20)
    loop = asyncio.get_running_loop()
    flooded._listen(next(iter(flooded._streams)))
    began = loop.time()
    await until(lambda: flooded._written_bytes > 3 << 20)
    passed_s = loop.time() - began
    flooded.close()
    assert passed_s > 0.3  # at that rate it takes 0.375 s, of which the burst is free


async def test_the_end_of_a_log_does_not_wait_for_whoever_else_holds_its_other_end(
    flooded: LifeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "DRAIN_BYTES_MAX", 1 << 17)
    flooded.close()
    assert flooded._written_bytes < 1 << 20


async def test_a_new_agent_goes_on_where_the_old_one_stopped(tmp_path: Path) -> None:
    first = Pipes(tmp_path / "blog")
    os.write(first.out[1], b"before\n")
    await until(lambda: bool(first.log.tail))
    first.log.close()
    second = LifeLog(tmp_path / "blog", "1.1", (first.out[0], first.err[0]), lambda: "T")
    second.follow()
    os.write(first.out[1], b"after\n")
    os.close(first.out[1])
    os.close(first.err[1])
    second.close()
    os.close(first.out[0])
    os.close(first.err[0])
    assert first.path.read_bytes() == b"T out before\nT out after\n"


def test_only_the_newest_lives_are_kept(tmp_path: Path) -> None:
    for number in range(1, 26):
        for name in (f"1.{number}.log", f"1.{number}.log.1"):
            path = tmp_path / name
            path.touch()
            os.utime(path, (number, number))
    (tmp_path / "notes").touch()
    logs.trim(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"notes"} | {f"1.{number}.log{more}" for number in range(6, 26) for more in ("", ".1")}
    logs.trim(tmp_path / "absent")


def test_the_logs_of_a_removed_app_go(tmp_path: Path) -> None:
    (tmp_path / "lives/blog").mkdir(parents=True)
    (tmp_path / "lives/blog/1.1.log").touch()
    (tmp_path / "lives/shop").mkdir()
    logs.remove(str(tmp_path), "blog")
    logs.remove(str(tmp_path), "blog")
    assert [path.name for path in (tmp_path / "lives").iterdir()] == ["shop"]
