"""An error in a definition, and the line that it is about."""

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from containerlib.checks import SpecError

_NOT_A_DEFINITION = (str(Path(__file__).parents[1]) + "/", "<frozen ")
_STDLIB = sysconfig.get_path("stdlib") + "/"
_SITE = sysconfig.get_path("purelib") + "/"


class DefinitionError(Exception):
    """`where` is FILE:LINE."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.where = where
        self.message = message


def where() -> str:
    """The nearest line that is neither ours nor the standard library's: the one that says what is checked here."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""


def _is_ours(filename: str) -> bool:
    return filename.startswith(_NOT_A_DEFINITION) or (filename.startswith(_STDLIB) and not filename.startswith(_SITE))


@contextmanager
def told(field: str = "", at: str = "") -> Iterator[None]:
    """A broken rule with the line that broke it. `field` for errors of the words for CPU, memory and time, which do not know it."""
    try:
        yield
    except SpecError as error:
        raise DefinitionError(at or where(), str(error)) from None
    except ValueError as error:
        raise DefinitionError(at or where(), f"{field}: {error}" if field else str(error)) from None
