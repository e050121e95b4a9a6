"""Signals to a program by its descriptor, with real processes; whole containers are in test_runtime.py."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from containerlib.handle import Program

SLEEPS = "import signal, sys, time; {}; print(1, flush=True); time.sleep(60)"


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[bytes], Program]]:
    child = subprocess.Popen(
        [sys.executable, "-c", SLEEPS.format(request.param)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None and child.stdout.readline()
    program = Program(os.pidfd_open(child.pid))
    try:
        yield child, program
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        os.close(program.pidfd)


@pytest.mark.parametrize("started", ["pass"], indirect=True)
def test_a_program_is_asked_to_stop(started: tuple[subprocess.Popen[bytes], Program]) -> None:
    child, program = started
    assert program.ask_to_stop()
    assert child.wait(10) == -signal.SIGTERM
    assert not program.ask_to_stop()  # it has ended


@pytest.mark.parametrize("started", ["signal.signal(signal.SIGTERM, signal.SIG_IGN)"], indirect=True)
def test_nobody_is_asked_who_would_not_hear_it(started: tuple[subprocess.Popen[bytes], Program]) -> None:
    child, program = started
    assert not program.ask_to_stop()
    assert child.poll() is None
    assert program.ask_to_stop(signal.SIGINT)  # another word, that it does hear
    assert child.wait(10) != 0
