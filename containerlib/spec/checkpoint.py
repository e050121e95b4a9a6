"""That images of a container may be taken, and what a restored one is told. Pure."""

import re
from dataclasses import dataclass
from signal import Signals

from containerlib.checks import SpecError, signal_number, text

_CALL = re.compile(r"[a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`signal`: to its program when it was restored, so that it seeds its random numbers anew and connects anew; None: it is told
    nothing, what hooks do apart. `before`: a system call, such as listen, right before which an image is taken when it is
    started and has none that fits; empty: images are taken when somebody asks for them."""

    signal: Signals | None = None
    before: str = ""

    def __post_init__(self) -> None:
        if not _CALL.fullmatch(text("checkpoint.before", self.before)):
            raise SpecError("checkpoint.before", self.before, "is not the name of a system call, such as listen")
        if self.signal is not None:
            signal_number("checkpoint.signal", self.signal)
