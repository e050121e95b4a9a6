"""Background tasks that are named, kept and never die in silence."""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

_log = logging.getLogger(__name__)


class Tasks:
    """The background tasks of one owner; `close` ends them all and waits until they are gone."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("task %s died", task.get_name(), exc_info=error)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def border(what: str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Around one turn of a loop on which everybody depends: what goes wrong for one must not end it for all."""
    try:
        yield
    except but:
        raise
    except Exception:  # noqa: BLE001 - the border of a task
        _log.exception("%s failed", what)
