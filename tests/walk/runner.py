"""The runner of a container by itself, watched: it halts at the step of its container's life that it is told to."""

import os
from pathlib import Path

from containerlib.standalone.run import Job, run_here
from tests.walk.steps import RUNNER, Steps


def run_watched(file: str, job: Job, log: Path) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(fd, number)
    os.close(fd)
    Steps(file).watch(RUNNER)
    outcome = run_here(job)
    os._exit(1 if outcome.failure else 0)
