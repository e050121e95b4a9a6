"""What people and scripts read on a terminal."""

import pytest

from containerlib.cli.output import print_table, printable, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äß 漢", "plain äß 漢"),
        ("a\tb", "a\tb"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("one\ntwo\r", "one\\ntwo\\r"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_table_in_a_pipe_is_neither_wrapped_nor_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "LONG"), [("x" * 300, "[bold]y[/bold]\x1b"), ("", "z")])
    assert capsys.readouterr().out.splitlines() == [
        "A" + " " * 299 + "  LONG",
        "x" * 300 + "  [bold]y[/bold]\\x1b",
        " " * 300 + "  z",
    ]


def test_a_table_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    print_table(("A", "B"), [("[bold]x[/bold]", "y\x1b[2J")])
    out = capsys.readouterr().out
    assert "[bold]x[/bold]" in out and "\\x1b[2J" in out


def test_what_is_said_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1bb")
    assert capsys.readouterr().out == "a\\x1bb\n"
