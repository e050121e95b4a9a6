"""The operator's definitions on this Compute, by name, as they were when they last made sense.

    complaints = await shelf.refresh()      # one stat of the directory and of each file, unless something has changed
    app = shelf.applied(app)                # with what its definition says
    shelf.get("blog")                       # a ContainerSpec, None where nobody defines it

They are read as containers by themselves are: files that root owns and nobody else can write, in such directories. A file that is
broken, or no longer to be trusted, keeps the text that it had. They are executed in a thread, never in the agent's loop.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from containerlib.dsl import DefinitionError, Definitions
from containerlib.dsl.definitions import from_texts, read_trusted
from containerlib.handle import StartFailed
from containerlib.spec import ContainerSpec
from dispatcher.compute import defined
from dispatcher.domain import App

Seen = tuple[tuple[str, int, int, int], ...]  # path, inode, size, time of change
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Read:
    texts: Mapping[str, bytes] = field(default_factory=dict)
    specs: Mapping[str, ContainerSpec] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()


class Shelf:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: Seen | None = None
        self._read = _Read()
        self._reading = asyncio.Lock()

    @property
    def texts(self) -> Mapping[str, bytes]:
        return self._read.texts

    def names(self) -> list[str]:
        return sorted(self._read.specs)

    def get(self, name: str) -> ContainerSpec | None:
        return self._read.specs.get(name)

    def has_changed(self) -> bool:
        return self._look() != self._seen

    async def refresh(self) -> tuple[str, ...]:
        """What is wrong with files that have changed, each with file and line; empty if nothing has changed."""
        async with self._reading:
            seen = self._look()
            if seen == self._seen:
                return ()
            self._read = await asyncio.to_thread(_read, [each[0] for each in seen], self._read)
            self._seen = seen
        for complaint in self._read.complaints:
            _log.warning("%s", complaint)
        return tuple(f"{complaint}; what was read before stays in force" for complaint in self._read.complaints)

    def _look(self) -> Seen:
        try:
            with os.scandir(self._directory) as entries:
                found = sorted((each.path, each) for each in entries if each.name.endswith(".py"))
            return tuple(
                (path, status.st_ino, status.st_size, status.st_ctime_ns)
                for path, entry in found
                if (status := entry.stat())
            )
        except OSError:
            return ()

    def applied(self, app: App) -> App:
        """As it is where its definition is not there: it will not start, and what runs goes on."""
        definition = self.get(app.spec.definition) if app.spec.definition else None
        return app if definition is None else defined.applied(app, definition)

    def of(self, app: App) -> ContainerSpec:
        """Raises StartFailed, which says what to do."""
        name = app.spec.definition
        definition = self.get(name)
        if definition is None:
            known = ", ".join(self.names()) or "none"
            wrong = "".join(f"; {complaint}" for complaint in self._read.complaints)
            raise StartFailed(
                f"definition {name!r} is not in {self._directory}/*.py on this host: there is {known}{wrong}"
            )
        if refused := defined.not_for_apps(definition):
            raise StartFailed(f"definition {name!r} says what an app cannot have: {', '.join(refused)}")
        return definition


def _read(paths: list[str], before: _Read) -> _Read:
    texts: dict[str, bytes] = {}
    complaints: list[str] = []
    for path in paths:
        try:
            texts[path] = read_trusted(path)
        except (DefinitionError, OSError) as error:
            complaints.append(str(error))
            if path in before.texts:
                texts[path] = before.texts[path]
    # A file at a time is put back to what it was, until the rest makes sense.
    for _ in range(len(texts) + 1):
        try:
            return _Read(texts, _specs(from_texts(texts), before), tuple(complaints))
        except DefinitionError as error:
            complaints.append(str(error))
            wrong = next((path for path in texts if error.where.startswith(f"{path}:")), None)
            if wrong is None:
                break
            if before.texts.get(wrong) not in (None, texts[wrong]):
                texts[wrong] = before.texts[wrong]
            else:
                del texts[wrong]
    return _Read(before.texts, before.specs, tuple(complaints))


def _specs(definitions: Definitions, before: _Read) -> dict[str, ContainerSpec]:
    """Those of unchanged files are the very ones that they were: nobody need be told of another file's change."""
    made = {}
    for name in definitions.names():
        files = {each.where.rpartition(":")[0] for each in definitions.line(definitions.by_name[name])}
        same = all(definitions.texts[file] == before.texts.get(file) for file in files)
        made[name] = before.specs[name] if same and name in before.specs else definitions.spec(name)
    return made
