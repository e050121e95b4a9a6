"""Which code a process has loaded."""

from pathlib import Path

from containerlib.code import checksum


def test_every_byte_and_name_of_a_module_counts_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("2")
    found = {checksum(str(tmp_path))}
    (tmp_path / "notes").write_text("")
    found.add(checksum(str(tmp_path)))
    assert len(found) == 1
    (tmp_path / "a.py").write_text("3")
    found.add(checksum(str(tmp_path)))
    (tmp_path / "a.py").rename(tmp_path / "c.py")
    found.add(checksum(str(tmp_path)))
    assert len(found) == 3


def test_it_is_the_same_twice() -> None:
    assert checksum() == checksum() != 0
