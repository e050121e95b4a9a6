from bench import stepping
from containerlib.operations import ChangeDirectory, EnterGroup


def test_steps_are_timed_but_for_what_is_done_in_reserve(monkeypatch, tmp_path) -> None:
    taken: list[tuple[str, float]] = []
    monkeypatch.setattr(stepping, "_taken", taken)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").touch()
    stepping.execute((EnterGroup(str(tmp_path / "tasks")), ChangeDirectory(str(tmp_path))))
    ((name, us),) = taken
    assert name == "ChangeDirectory"
    assert us > 0
