"""A text given to a person's editor."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from dispatcher.problems import Code, Problem


def edited(text: str, name: str) -> str:
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.NamedTemporaryFile("w", prefix=f"{name}-", suffix=".json") as file:
        file.write(text)
        file.flush()
        try:
            done = subprocess.run([*command, file.name], check=False)
        except OSError as error:
            hint = "set EDITOR, or use --spec FILE"
            raise Problem(Code.INVALID, f"the editor {command[0]!r} cannot be started: {error}", hint=hint) from error
        if done.returncode:
            raise Problem(Code.INVALID, f"{command[0]} ended with {done.returncode}: nothing was changed")
        return Path(file.name).read_text()  # by name: most editors write a new file in its place
