"""That images may be taken."""

from signal import Signals

import pytest

from containerlib.checks import SpecError
from containerlib.spec import Checkpoint, ContainerSpec


def test_none_may_be_taken_unless_it_says_so() -> None:
    assert ContainerSpec("web", ("php",)).checkpoint is None
    assert Checkpoint(Signals.SIGUSR1).signal is Signals.SIGUSR1


def test_a_call_goes_by_its_name() -> None:
    assert Checkpoint(before="listen").before == "listen"
    with pytest.raises(SpecError, match=r"checkpoint\.before: 'listen\(\)' is not the name of a system call"):
        Checkpoint(before="listen()")


@pytest.mark.parametrize("word", ["nonsense", 999, True])
def test_what_is_no_signal_is_refused(word: object) -> None:
    with pytest.raises(SpecError, match=r"checkpoint\.signal"):
        Checkpoint(word)  # type: ignore[arg-type]
