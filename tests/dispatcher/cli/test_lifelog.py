from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.cli.lifelog import AppReader, LifeReader, Line, parse
from dispatcher.compute import logs as writer
from dispatcher.compute.logs import LifeLog

AT = "2026-11-23T05:49:25.123456Z"


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        (f"{AT} out hello world".encode(), Line(AT, "a/1.1", "out", "hello world")),
        (f"{AT} err ".encode(), Line(AT, "a/1.1", "err", "")),
        (f"{AT} out".encode(), Line(AT, "a/1.1", "out", "")),
        (f"{AT} out \xff".encode("latin-1"), Line(AT, "a/1.1", "out", "\ufffd")),
        (b"ut cut off", None),
        (b"", None),
    ],
)
def test_parse(line: bytes, parsed: Line | None) -> None:
    assert parse(line, "a/1.1") == parsed


class Log:
    """Written and rotated by hand, a line at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def write(self, lines: int = 1) -> None:
        with self.path.open("a") as file:
            for _ in range(lines):
                self.count += 1
                file.write(f"{AT} out {self.count}\n")

    def rotate(self, kept: int = 3) -> None:
        for number in range(kept - 1, 0, -1):
            newer = Path(f"{self.path}.{number - 1}") if number > 1 else self.path
            if newer.exists():
                newer.replace(f"{self.path}.{number}")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "1.1.log")


def texts(reader: LifeReader) -> list[int]:
    return [int(line.text) for line in reader.new_lines()]


def test_what_is_there_then_what_comes(log: Log) -> None:
    reader = LifeReader(log.path, "a/1.1")
    assert texts(reader) == []
    log.write(2)
    log.rotate()
    log.write(1)
    assert texts(reader) == [1, 2, 3]
    assert texts(reader) == []
    log.write()
    assert texts(reader) == [4]
    reader.close()


@pytest.mark.parametrize("rotations", [1, 2])
def test_rotation_loses_and_repeats_nothing(log: Log, rotations: int) -> None:
    log.write(2)
    reader = LifeReader(log.path, "a/1.1")
    assert texts(reader) == [1, 2]
    for _ in range(rotations):
        log.write()  # after the last read, before the rotation
        log.rotate()
        log.write()
    assert texts(reader) == list(range(3, log.count + 1))
    reader.close()


def test_rotated_and_nothing_new_yet(log: Log) -> None:
    log.write()
    reader = LifeReader(log.path, "a/1.1")
    assert texts(reader) == [1]
    log.rotate()
    assert texts(reader) == []
    log.write()
    assert texts(reader) == [2]
    reader.close()


def test_past_the_last_kept_file_it_goes_on_with_the_oldest(log: Log) -> None:
    log.write()
    reader = LifeReader(log.path, "a/1.1")
    assert texts(reader) == [1]
    for _ in range(4):
        log.rotate()
        log.write()
    assert texts(reader) == [3, 4, 5]
    reader.close()


def test_half_a_line_waits_for_its_end(log: Log) -> None:
    reader = LifeReader(log.path, "a/1.1")
    with log.path.open("a") as file:
        file.write(f"{AT} out 1")
        file.flush()
        assert texts(reader) == []
        file.write("1\n")
    assert texts(reader) == [11]
    reader.close()


def test_a_new_life_appears_and_lives_are_merged_by_time(tmp_path: Path) -> None:
    def write(name: str, second: int, stream: str = "out") -> None:
        with (tmp_path / f"{name}.log").open("a") as file:
            file.write(f"2026-11-23T05:49:{second:02}.000000Z {stream} {second}\n")

    reader = AppReader(tmp_path / "absent", "a")
    with pytest.raises(FileNotFoundError):
        reader.new_lines()
    reader = AppReader(tmp_path, "a")
    for name, second in (("1.1", 1), ("2.1", 2), ("1.1", 3)):
        write(name, second)
    assert [(line.life, line.text) for line in reader.new_lines()] == [("a/1.1", "1"), ("a/2.1", "2"), ("a/1.1", "3")]
    write("1.2", 4)
    write("2.1", 5)
    assert [(line.life, line.text) for line in reader.new_lines()] == [("a/1.2", "4"), ("a/2.1", "5")]
    reader.close()
    one = AppReader(tmp_path, "a", "2.1")
    assert [line.text for line in one.new_lines()] == ["2", "5"]
    one.close()


async def test_it_reads_what_the_agent_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stamp: Callable[[], str]
) -> None:
    import os

    monkeypatch.setattr(writer, "LIFE_BYTES_MAX", 400)
    out, err = os.pipe(), os.pipe()
    log = LifeLog(tmp_path, "1.1", (out[0], err[0]), stamp)
    reader = AppReader(tmp_path, "a")
    seen: list[str] = []
    for number in range(40):
        os.write(err[1], f"line {number}\n".encode())
        log._read(err[0])
        seen += [line.text for line in reader.new_lines()]
    assert seen == [f"line {number}" for number in range(40)]
    assert (tmp_path / "1.1.log.2").exists()
    os.close(out[1])
    os.close(err[1])
    log.close()
    reader.close()
    os.close(out[0])
    os.close(err[0])


@pytest.fixture
def stamp() -> Callable[[], str]:
    return lambda: AT
