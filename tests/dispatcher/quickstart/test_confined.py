import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.quickstart.confined import covers

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("closed", "paths", "expected"),
    [
        ((), ("/opt/site",), {}),
        (("/root",), ("/opt/site",), {}),
        (
            ("/root",),
            ("/root/site", "/root/.pyenv/versions/3.13"),
            {"/root": ["/root/site", "/root/.pyenv/versions/3.13"]},
        ),
        # Only the topmost counts: what is below is made anew.
        (("/home/a", "/home/a/private"), ("/home/a/private/site",), {"/home/a": ["/home/a/private/site"]}),
        (("/root", "/home/a"), ("/root/x", "/home/a/y"), {"/root": ["/root/x"], "/home/a": ["/home/a/y"]}),
        # Itself closed: hiding what is around it would not open it.
        (("/srv/site",), ("/srv/site",), {}),
    ],
)
def test_covers_names_the_topmost_closed_directories(closed, paths, expected) -> None:
    found = covers([Path(path) for path in paths], lambda directory: str(directory) not in closed)
    assert {str(key): [str(path) for path in value] for key, value in found.items()} == expected


@pytest.mark.system
def test_the_command_runs_as_the_user_and_sees_of_a_closed_directory_only_what_it_needs(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    needed, secret = closed / "needed", closed / "secret"
    for directory in (needed, secret):
        directory.mkdir(parents=True)
    (needed / "file").write_text("here")
    closed.chmod(0o700)
    script = f"cat {needed}/file; echo; ls {closed}; id -un; grep NoNewPrivs /proc/self/status"
    done = subprocess.run(
        [sys.executable, "-m", "dispatcher.quickstart.confined", "nobody", str(needed), "--", "/bin/sh", "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["here", "needed", "nobody", "NoNewPrivs:", "1"]
    assert closed.stat().st_mode & 0o777 == 0o700
