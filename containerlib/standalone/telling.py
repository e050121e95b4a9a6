"""A definition's own functions, told of what happens: those of a phase one after the other, timers and events beside the life."""

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from containerlib.handle import StartFailed
from containerlib.hooks import Hook, Moment, OnFailure, Phase, Task, of_phase
from containerlib.standalone.hands import Inside


class Runs(Protocol):
    async def run(self, task: Task, moment: Moment, inside: Inside | None) -> str:
        """As Hands.run."""


@dataclass
class Telling:
    """`moment` tells of the container for a cause, `inside` is the way in, None while there is none; `say` hears of failures."""

    name: str
    hands: Runs
    say: Callable[[str], None]
    moment: Callable[[str], Moment]
    inside: Callable[[], Inside | None]
    _running: dict[int, asyncio.Task[None]] = field(default_factory=dict, init=False)

    async def phase(
        self, hooks: tuple[Hook, ...], phase: Phase, *, exit_status: int | None = None, failure: str = ""
    ) -> None:
        """Raises StartFailed where a hook that may abort has failed."""
        for hook in of_phase(hooks, phase):
            moment = dataclasses.replace(self.moment(phase), exit_status=exit_status, failure=failure)
            if not (problem := await self.hands.run(hook, moment, self.inside())):
                continue
            text = f"hook {hook.name} in phase {phase}: {problem}"
            if hook.on_failure is OnFailure.ABORT:
                raise StartFailed(text)
            self.say(f"{self.name}: {text}")

    def aside(self, task: Task, cause: str) -> None:
        """One run of it at a time: what is due while it still runs is skipped."""
        if id(task) in self._running:
            return
        work = asyncio.get_running_loop().create_task(self._one(task, cause), name=f"hook {task.name}")
        self._running[id(task)] = work
        work.add_done_callback(lambda _work: self._running.pop(id(task), None))

    async def _one(self, task: Task, cause: str) -> None:
        if failure := await self.hands.run(task, self.moment(cause), self.inside()):
            self.say(f"{self.name}: {cause} {task.name}: {failure}")

    async def settle(self) -> None:
        """Until none runs any more; each has its time limit."""
        while self._running:
            await asyncio.wait(set(self._running.values()))
