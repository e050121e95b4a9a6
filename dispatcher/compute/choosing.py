"""What was measured of each app's starts, and what follows for its next one. The decisions are strategy.py's.

    choosing = Choosing(lives)
    choosing.begin(app).start            # cold, or from an image
    choosing.rest(app, lives)            # it fell silent: frozen, or stopped
    choosing.started(life); choosing.thawed(life); choosing.failed(life, Start.FROZEN)

In memory: an agent that is new measures anew.
"""

from collections.abc import Iterable

import psutil

from dispatcher.compute import strategy
from dispatcher.compute.life import Life
from dispatcher.compute.strategy import Choice, Host, Measured
from dispatcher.domain import App, Start


class Choosing:
    def __init__(self) -> None:
        self._measured: dict[str, Measured] = {}  # of apps that may choose how they come back

    def begin(self, app: App) -> Choice:
        return strategy.wake(app.spec.policy.start, self._of(app))

    def rest(self, app: App, lives: list[Life], *, lacks_image: bool) -> Choice:
        keeps_bytes = sum(life.handle.group.memory_bytes() for life in lives if life.handle)
        return strategy.rest(app.spec.policy.start, self._of(app), host(), keeps_bytes, lacks_image=lacks_image)

    def started(self, life: Life) -> None:
        """It listens. What was made for an image to be taken of it is no measure of anything."""
        assert life.handle is not None
        if "restore" in life.phases:
            self._woke(life, Start.RESTORED)
        elif life.handle.kind.dumpable is None:
            self._woke(life, Start.COLD)

    def thawed(self, life: Life) -> None:
        self._woke(life, Start.FROZEN)

    def _woke(self, life: Life, how: Start) -> None:
        if life.app.spec.policy.start is Start.AUTO:
            measured = self._measured.setdefault(life.app.name, Measured())
            measured.woke(how, sum(life.phases.values()) / 1000)

    def failed(self, life: Life, how: Start) -> None:
        """It could not be frozen, or its image be taken or restored."""
        if (measured := self._measured.get(life.app.name)) is None:
            return
        if how is Start.FROZEN:
            measured.freezes_failed += 1
        else:
            measured.images_failed += 1

    def forget(self, app: str) -> None:
        """It is another by now, or no more."""
        self._measured.pop(app, None)

    def _of(self, app: App) -> Measured:
        return self._measured.get(app.name) or Measured()


def to_stop(lives: Iterable[Life]) -> str | None:
    """A host that runs short has better use for its memory than what `auto` keeps: the app that is to give it back."""
    kept: dict[str, int] = {}
    for life in lives:
        if life.is_frozen and life.app.spec.policy.start is Start.AUTO and not life.draining:
            kept[life.app.name] = kept.get(life.app.name, 0) + life.kept_bytes
    return strategy.to_stop(kept, host()) if kept else None


def host() -> Host:
    memory = psutil.virtual_memory()
    return Host(memory.total, memory.available)
