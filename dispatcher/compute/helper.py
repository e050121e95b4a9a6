"""The process that does what is to be done in containers' namespaces, and another one when it dies."""

import asyncio
import logging

from containerlib.standalone.hands import Hands
from dispatcher.tasks import Tasks

RETRY_S = 0.5
_log = logging.getLogger(__name__)


class Helper:
    """Executed, not forked: the agent has threads, and a child with half of their locks could not be trusted."""

    hands: Hands

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

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
            self.hands.close()
            self.hands = hands

    def close(self) -> None:
        self.hands.close()
