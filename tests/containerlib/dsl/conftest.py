"""Definition files of a test."""

from collections.abc import Callable
from pathlib import Path

import pytest

from containerlib.dsl import Definitions, load
from containerlib.spec import ContainerSpec

HEAD = "from containerlib import OnFailure, Phase, Side, define\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "site.py") -> Path:
        path = tmp_path / name
        path.write_text(HEAD + text)
        path.chmod(0o644)
        return path

    return write


@pytest.fixture
def defined(write: Callable[..., Path]) -> Callable[[str], Definitions]:
    return lambda text: load([write(text)])


@pytest.fixture
def said(defined: Callable[[str], Definitions]) -> Callable[..., ContainerSpec]:
    """The spec of a definition that says these lines; the first of them is line 4 of its file."""

    def said(*lines: str) -> ContainerSpec:
        body = "\n".join(f"    {line}" for line in lines)
        return defined(f'@define("site")\ndef site(c):\n{body}\n').spec("site")

    return said
