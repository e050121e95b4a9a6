from pathlib import Path

import pytest

from dispatcher.cli.editor import edited
from dispatcher.problems import Code, Problem


def test_the_text_comes_back_changed_and_the_file_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("VISUAL", "sed -i s/old/new/")
    assert edited("old text\n", "blog") == "new text\n"


@pytest.mark.parametrize(("command", "said"), [("false", "ended with 1"), ("/no/such/editor -w", "cannot be started")])
def test_an_editor_that_fails_changes_nothing(command: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", command)
    with pytest.raises(Problem, match=said) as refused:
        edited("text", "blog")
    assert refused.value.code is Code.INVALID
