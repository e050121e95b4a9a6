"""Programs of a build, really started."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from containerlib import programs
from containerlib.programs import ProgramError
from tests.plugins.images import processes

pytestmark = pytest.mark.system


def failure(*command: str, timeout_s: float = 20, remedy: str = "", **more: object) -> ProgramError:
    with pytest.raises(ProgramError) as caught:
        programs.run(command, timeout_s=timeout_s, remedy=remedy, **more)  # type: ignore[arg-type]
    return caught.value


def test_stdout_is_returned_and_every_line_is_told() -> None:
    told: list[str] = []
    text = programs.run(("sh", "-c", "echo out; echo err >&2"), timeout_s=20, on_line=told.append)
    assert text == "out\n"
    assert sorted(told) == ["err", "out"]


def test_how_it_failed_its_last_words_and_the_command() -> None:
    error = failure("sh", "-c", "seq 100; echo sorry >&2; exit 3", remedy="do better")
    assert "/sh exited with code 3 after" in error.how
    assert error.tail[-1] == "sorry"
    assert len(error.tail) == programs.TAIL_LINES and "100" in error.tail
    assert str(error).splitlines()[-2:] == ["    sh -c 'seq 100; echo sorry >&2; exit 3'", "do better"]


def test_a_signal_is_named() -> None:
    assert "was killed by SIGKILL" in failure("sh", "-c", "kill -9 $$").how


def test_the_command_can_be_pasted(tmp_path: Path) -> None:
    error = failure("sh", "-c", 'echo "$PWD $WORD"; exit 1', cwd=tmp_path, env={"WORD": "two words"})
    pasted = subprocess.run(error.command, shell=True, capture_output=True, text=True, check=False)  # noqa: S602
    assert pasted.stdout.splitlines() == list(error.tail) == [f"{tmp_path} two words"]


def test_an_absent_program_names_the_package() -> None:
    error = failure("no-such-program")
    assert str(error).splitlines()[0] == "no-such-program is not installed"
    assert error.remedy == "install the package no-such-program, then build again"


def test_a_program_whose_interpreter_is_absent(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    assert "could not be started: " in failure(str(script)).how


def test_when_time_is_over_all_of_it_goes() -> None:
    begun = time.monotonic()
    error = failure("sh", "-c", "sleep 987651 & setsid sleep 987651 & echo here; exec sleep 987651", timeout_s=0.5)
    assert "did not end within 0.5 s" in error.how and error.tail == ("here",)
    assert time.monotonic() - begun < 10
    assert processes("987651") == []


def test_what_it_left_in_the_background_ends_with_it() -> None:
    programs.run(("sh", "-c", "setsid sleep 987652 >/dev/null 2>&1 &"), timeout_s=20)
    assert processes("987652") == []


def test_a_callback_that_raises_ends_it() -> None:
    def stop(_line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        programs.run(("sh", "-c", "echo x; exec sleep 987653"), timeout_s=20, on_line=stop)
    assert processes("987653") == []


def test_output_is_bounded_with_or_without_line_ends() -> None:
    error = failure("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; exit 1")
    assert sum(map(len, error.tail)) <= programs.TAIL_LINES * programs.LINE_BYTES_MAX
    text = programs.run(("head", "-c", "3000000", "/dev/zero"), timeout_s=20)
    assert len(text) == programs.STDOUT_BYTES_MAX


def test_environment_input_and_descriptors() -> None:
    text = programs.run(("sh", "-c", "env | sort; cat; ls /proc/self/fd; umask"), timeout_s=20, env={"OWN": "1"})
    assert "OWN=1\n" in text and f"PATH={programs.DEFAULT_PATH}\n" in text
    assert "VIRTUAL_ENV" not in text and "PYTEST_CURRENT_TEST" not in text
    assert text.splitlines()[-5:] == ["0", "1", "2", "3", "0022"]  # 3: ls itself reads the directory


def test_a_held_descriptor_is_not_the_programs() -> None:
    read, write = os.pipe()
    try:
        text = programs.run(("ls", "/proc/self/fd"), timeout_s=20, held=(write,))
        assert text.split() == ["0", "1", "2", "3"]
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize(
    ("words", "env", "cwd", "shown"),
    [
        (("true",), {}, "/", "true"),
        (("echo", "a b"), {}, "/", "echo 'a b'"),
        (("true",), {"A": "1 2"}, "/", "env 'A=1 2' true"),
        (("true",), {}, "/tmp", "env -C /tmp true"),
    ],
)
def test_description(words: tuple[str, ...], env: dict[str, str], cwd: str, shown: str) -> None:
    assert programs.describe(words, env, Path(cwd)) == shown
