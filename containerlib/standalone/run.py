"""Running a container from here: in the foreground, with this process's terminal or without one, or detached.

outcome = run_here(job)                  # returns when it has ended
record = run_detached(job)               # returns when it is ready, or raises NotStarted
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from containerlib.dsl import DefinitionError, load
from containerlib.spec import ContainerSpec
from containerlib.standalone import output
from containerlib.standalone.hands import Hands
from containerlib.standalone.machine import clean
from containerlib.standalone.places import Place, Record, Settings, Taken, hold, is_held
from containerlib.standalone.runner import Outcome, Runner, to_stderr
from containerlib.standalone.worker import tasks_of
from containerlib.terminal import raw, relay


class NotStarted(Exception):
    """The text says why, for its owner."""


@dataclass(frozen=True, slots=True)
class Job:
    """`command` instead of the definition's own, if it is not empty. `restore`: of an image, see runner.py."""

    name: str
    files: tuple[Path, ...]
    settings: Settings
    command: tuple[str, ...] = ()
    restore: Path | None = None

    def spec(self) -> ContainerSpec:
        """Raises DefinitionError, and OSError for a file that cannot be read."""
        spec = load(self.files).spec(self.name)
        return replace(spec, command=self.command) if self.command else spec


def clear_away(settings: Settings, name: str) -> bool:
    """What a runner left which died. False: there was no container. Raises Taken while one lives."""
    if not (settings.run_dir / name).is_dir():
        return False
    with hold(settings, name) as place:
        if (left := place.record()) is None:  # it had not got so far, or was the one to clear away
            place.remove()
            return False
        asyncio.run(clean(place, left))
    return True


def run_here(job: Job) -> Outcome:
    """With a terminal of the container's own, whose bytes are carried, where ours is one. Raises Taken and what `spec` raises."""
    spec = job.spec()
    if not (os.isatty(0) and os.isatty(1)):
        return _run(job, spec, sinks=(output.Terminal(1), output.Terminal(2)))
    hands = Hands(tasks_of(spec))  # before there are threads
    with contextlib.ExitStack() as stack:
        stack.callback(hands.close)
        master, slave = os.openpty()
        stack.callback(os.close, master)
        stack.callback(os.close, slave)
        over, end = os.pipe()
        stack.callback(os.close, over)
        carry = threading.Thread(target=relay, args=({0: master, master: 1}, over, [master]), name="terminal")
        stack.enter_context(raw(0, master))
        carry.start()
        try:
            return _run(job, spec, hands=hands, terminal=slave, sinks=(output.Terminal(1), output.Terminal(2)))
        finally:
            os.close(end)
            carry.join()


def _run(
    job: Job,
    spec: ContainerSpec,
    *,
    hands: Hands | None = None,
    terminal: int | None = None,
    sinks: tuple[output.Sink, output.Sink] | None = None,
    say: Callable[[str], None] = to_stderr,
    ready: Callable[[Record], None] = lambda _record: None,
) -> Outcome:
    own = hands or Hands(tasks_of(spec))
    try:
        clear_away(job.settings, spec.name)
        with hold(job.settings, spec.name) as place:
            return asyncio.run(_runner(spec, place, own, job, say, ready, sinks, terminal))
    finally:
        if hands is None:
            own.close()


async def _runner(
    spec: ContainerSpec,
    place: Place,
    hands: Hands,
    job: Job,
    say: Callable[[str], None],
    ready: Callable[[Record], None],
    sinks: tuple[output.Sink, output.Sink] | None,
    terminal: int | None,
) -> Outcome:
    return await Runner(spec, place, hands, job.files, say, ready, sinks, terminal, job.restore).run()


def run_detached(job: Job) -> Record:
    """In a process and session of its own, which outlives this one; what it has to say later goes to LOG_DIR/NAME.log."""
    if is_held(job.settings, job.name):
        raise Taken(f"{job.name} runs already")
    job.settings.log_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    reading, writing = os.pipe()
    words = [job.name, str(writing), json.dumps(job.command), str(job.restore or ""), *map(str, job.files)]
    command = [sys.executable, "-m", "containerlib.standalone", *words]
    with (job.settings.log_dir / f"{job.name}.log").open("ab") as log, open(reading, "rb") as told:
        subprocess.run(  # ends at once: see main
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[writing],
            check=True,
            env={**os.environ, **job.settings.environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        os.close(writing)
        line = told.readline()
    if not line:
        raise NotStarted(f"its runner died; {job.settings.log_dir / f'{job.name}.log'} may say why")
    reply = json.loads(line)
    if "failure" in reply:
        raise NotStarted(reply["failure"])
    return msgspec.convert(reply["record"], Record)


def main(words: list[str]) -> int:
    """The detached process: tells the descriptor that it was given how the start went. Nobody's child, so that whoever asked has
    nobody to wait for."""
    if os.fork():
        os._exit(0)
    os.setsid()
    name, tell, command, restore, *files = words
    image = Path(restore) if restore else None
    job = Job(name, tuple(map(Path, files)), Settings.of(os.environ), tuple(json.loads(command)), image)
    os.set_inheritable(int(tell), False)
    with os.fdopen(int(tell), "w") as telling:

        def ready(record: Record) -> None:
            telling.write(json.dumps({"record": asdict(record)}) + "\n")
            telling.close()

        try:
            outcome = _run(job, job.spec(), ready=ready)
        except (Taken, OSError, DefinitionError) as error:
            outcome = Outcome(1, str(error))
        if not telling.closed:
            telling.write(json.dumps({"failure": outcome.failure or "it ended before it was ready"}) + "\n")
    if outcome.failure:
        to_stderr(f"{name}: {outcome.failure}")
    return outcome.exit_code
