"""That images of a container may be taken, and what a restored one is told. Pure."""

from dataclasses import dataclass
from signal import Signals

from containerlib.checks import signal_number


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`signal`: to its program when it was restored, so that it seeds its random numbers anew and connects anew; None: it is told
    nothing, what hooks do apart."""

    signal: Signals | None = None

    def __post_init__(self) -> None:
        if self.signal is not None:
            signal_number("checkpoint.signal", self.signal)
