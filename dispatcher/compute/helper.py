"""The process that does what is to be done in containers' namespaces, and another one when it dies.

It runs the functions of definitions, too: `load` tells it of which, and whoever comes after it is told the same.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from containerlib.hooks import Moment, Task
from containerlib.standalone.hands import DIED, Hands, Inside
from dispatcher.tasks import Tasks

RETRY_S = 0.5
RENEWED_S = 5.0  # for which a hook waits for another helper
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Load:
    texts: Mapping[str, bytes]
    tasks: tuple[Task, ...]


class Helper:
    """Executed, not forked: the agent has threads, and a child with half of their locks could not be trusted."""

    hands: Hands

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._loads: dict[str, _Load] = {}  # by definition
        self._renewed = asyncio.Event()  # a new one for each helper

    def start(self) -> None:
        """Raises OSError."""
        self.hands = Hands.executed()
        self._tasks.start(self._keep(), name="helper")

    async def _keep(self) -> None:
        while True:
            self.hands.listen()
            await self.hands.died.wait()
            _log.warning("the helper has died; starting another one")
            try:
                hands = Hands.executed()
            except OSError as error:
                _log.error("no helper can be started: %s", error)
                await asyncio.sleep(RETRY_S)
                continue
            for name, load in self._loads.items():
                await hands.load(load.texts, name, load.tasks, name)
            self.hands.close()
            self.hands = hands
            self._renewed.set()
            self._renewed = asyncio.Event()

    async def load(self, texts: Mapping[str, bytes], name: str, tasks: tuple[Task, ...]) -> str:
        """Why it could not be, empty if it was."""
        if self._loads.get(name) == (load := _Load(texts, tasks)):
            return ""
        self._loads[name] = load
        return await self.hands.load(texts, name, tasks, name)

    async def run(self, task: Task, moment: Moment, inside: Inside | None) -> str:
        """Why it failed. One whose helper died under it runs once more, from its beginning."""
        hands, renewed = self.hands, self._renewed
        try:
            failure = await hands.run(task, moment, inside)
        except OSError as error:  # it was to run in a container that has just gone
            return str(error)
        if failure != DIED:
            return failure
        if self.hands is hands:
            with suppress(TimeoutError):
                async with asyncio.timeout(RENEWED_S):
                    await renewed.wait()
        return await self.hands.run(task, moment, inside)

    def close(self) -> None:
        self.hands.close()
