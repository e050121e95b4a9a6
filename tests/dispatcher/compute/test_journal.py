"""What a new agent finds of the one before it, however that one ended."""

import os
from pathlib import Path

import msgspec
import pytest

from dispatcher.compute import journal
from dispatcher.compute.journal import Journal, Record
from dispatcher.domain import App, AppSpec, Cause, Status

APP = App("blog", AppSpec(command=("php",)), cpu=0.3, uid=200_001)


def record(number: int = 1, status: Status = Status.RUNNING, *, gone: bool = False) -> Record:
    return Record(APP, "1", number, status, Cause.REQUEST, 7, 4711, 99, 1.0, 2.0, 32, "abc", gone)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def reopened(path: Path) -> list[Record]:
    journal = Journal(path)
    found = journal.open()
    journal.close()
    return found


def written(path: Path, *records: Record) -> None:
    journal = Journal(path)
    journal.open()
    for each in records:
        journal.write(each)
    journal.close()


def test_the_first_agent_finds_nothing(path: Path) -> None:
    assert reopened(path) == []


def test_the_last_word_about_each_life_counts(path: Path) -> None:
    written(path, record(1, Status.STARTING), record(2), record(1, Status.DRAINING))
    assert {each.life: each for each in reopened(path)} == {
        "blog/1.1": record(1, Status.DRAINING),
        "blog/1.2": record(2),
    }


def test_nobody_else_may_read_what_may_hold_passwords(path: Path) -> None:
    path.touch(0o644)  # an older agent's
    written(path, record())
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_gone_is_gone(path: Path) -> None:
    written(path, record(1), record(2), record(1, gone=True))
    assert reopened(path) == [record(2)]
    assert b"blog" in path.read_bytes()


@pytest.mark.parametrize("cut", [2, 30, 200])
def test_a_last_line_cut_short_is_dropped_and_what_is_written_next_is_whole(path: Path, cut: int) -> None:
    written(path, record(1), record(2))
    path.write_bytes(path.read_bytes()[:-cut])
    assert reopened(path) == [record(1)]
    written(path, record(3))
    assert reopened(path) == [record(1), record(3)]


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"{}\n", b"[1]\n", b"\n", b'{"app": 1}\n'])
def test_a_line_that_is_no_record_is_dropped(path: Path, line: bytes) -> None:
    written(path, record(1))
    path.write_bytes(path.read_bytes() + line)
    assert reopened(path) == [record(1)]


def test_it_is_compacted_while_it_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "COMPACT_AFTER_BYTES", 10_000)
    long = Journal(path)
    long.open()
    sizes = []
    for number in range(200):
        long.write(record(number))
        long.write(record(number, gone=number != 5))
        sizes.append(path.stat().st_size)
    long.close()
    assert max(sizes) < 20_000
    assert reopened(path) == [record(5)]
    assert not path.with_suffix(".new").exists()


def test_an_agent_killed_while_it_compacted_leaves_the_old_one_in_force(path: Path) -> None:
    written(path, record(1))
    path.with_suffix(".new").write_bytes(b"half")
    assert reopened(path) == [record(1)]


def test_a_record_written_by_an_older_agent_is_understood(path: Path) -> None:
    fields = msgspec.json.decode(msgspec.json.encode(record(1)))
    del fields["etc_image"]
    path.write_bytes(msgspec.json.encode(fields | {"new_field": 1}) + b"\n")
    assert reopened(path) == [msgspec.structs.replace(record(1), etc_image="")]


def test_without_room_a_life_goes_on(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(path)
    journal.open()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._fd)
    os.close(full)
    journal.write(record())
    journal.close()
    assert "No space left" in caplog.text
    assert reopened(path) == []
