"""`define`, the files that hold definitions, and the specs that these end in.

definitions = load(["/etc/fastcontainer/definitions/blog.py"])
definitions.spec("blog")
"""

import os
import stat
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from containerlib import checks
from containerlib.dsl.builder import Builder
from containerlib.dsl.errors import DefinitionError, told, where
from containerlib.spec import ContainerSpec

FILE_BYTES_MAX = 1 << 20
Function = Callable[[Builder], object]


@dataclass(frozen=True, slots=True)
class Definition:
    """`template`: only there for others to inherit from."""

    name: str
    function: Function
    inherits: "Definition | str | None"
    template: bool
    where: str


_collected: ContextVar[list[Definition] | None] = ContextVar("collected", default=None)


@contextmanager
def collecting() -> Iterator[list[Definition]]:
    """What is defined meanwhile, in its order."""
    found: list[Definition] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def define(
    name: str, *, inherits: Definition | str | None = None, template: bool = False
) -> Callable[[Function], Definition]:
    """Of a function that gets a Builder. What it inherits is said first, so that it can say otherwise."""
    at = where()
    with told():
        checks.name("name", name)

    def decorate(function: Function) -> Definition:
        definition = Definition(name, function, inherits, template, at)
        if (found := _collected.get()) is not None:
            found.append(definition)
        return definition

    return decorate


@dataclass(frozen=True, slots=True)
class Definitions:
    """By name. `text` of each file as it was read: what a later process reads may be another."""

    by_name: dict[str, Definition]
    texts: dict[str, bytes]

    def names(self) -> list[str]:
        """Of those that can run."""
        return [name for name, definition in self.by_name.items() if not definition.template]

    def spec(self, name: str) -> ContainerSpec:
        """Raises DefinitionError."""
        if name not in self.by_name:
            known = ", ".join(self.names()) or "none at all"
            raise DefinitionError("", f"no definition is called {name!r}; there is {known}")
        definition = self.by_name[name]
        if definition.template:
            raise DefinitionError(definition.where, f"{name!r} is a template: only there for others to inherit from")
        builder = Builder(name, definition.where)
        for each in self.line(definition):
            _say(each, builder)
        return builder._built()

    def specs(self) -> list[ContainerSpec]:
        return [self.spec(name) for name in self.names()]

    def line(self, definition: Definition) -> list[Definition]:
        """From the first ancestor down."""
        line = [definition]
        while (parent := line[0].inherits) is not None:
            if isinstance(parent, str):
                if parent not in self.by_name:
                    raise DefinitionError(
                        line[0].where, f"{line[0].name!r} inherits from {parent!r}, which nobody defines"
                    )
                parent = self.by_name[parent]
            if parent in line:
                raise DefinitionError(definition.where, f"{definition.name!r} inherits from itself, by {parent.name!r}")
            line.insert(0, parent)
        return line


def _say(definition: Definition, builder: Builder) -> None:
    """Whatever a definition raises is an error of its file, and told with the line."""
    try:
        definition.function(builder)
    except DefinitionError:
        raise
    except Exception as error:
        raise _own_error(error, definition.where) from error


def _own_error(error: Exception, at: str) -> DefinitionError:
    if isinstance(error, SyntaxError):
        return DefinitionError(f"{error.filename}:{error.lineno}", f"SyntaxError: {error.msg}")
    file = at.rpartition(":")[0]
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return DefinitionError(f"{file}:{own[-1].lineno}" if own else at, f"{type(error).__name__}: {error}")


def load(paths: Iterable[str | Path]) -> Definitions:
    """Each file in a namespace of its own. Raises DefinitionError, and OSError for a file that cannot be read."""
    return from_texts({str(path): read_trusted(str(path)) for path in map(Path.absolute, map(Path, paths))})


def from_texts(texts: Mapping[str, bytes]) -> Definitions:
    """Of files that were read already, by their paths."""
    by_name: dict[str, Definition] = {}
    for path, text in texts.items():
        for definition in _execute(path, text):
            if (first := by_name.get(definition.name)) is not None:
                raise DefinitionError(definition.where, f"{definition.name!r} is defined already, in {first.where}")
            by_name[definition.name] = definition
    return Definitions(by_name, dict(texts))


def _execute(path: str, source: bytes) -> list[Definition]:
    with collecting() as found:
        try:
            code = compile(source, path, "exec", dont_inherit=True)
            exec(code, {"__name__": f"definition:{path}", "__file__": path, "__builtins__": __builtins__})
        except DefinitionError:
            raise
        except Exception as error:
            raise _own_error(error, f"{path}:1") from error
    return found


def read_trusted(path: str) -> bytes:
    """The text of a file that only root and the caller can have written: it is executed with the caller's rights."""
    for directory in Path(path).resolve().parents:
        _refuse_foreign(str(directory), directory.stat(), directory=True)
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise DefinitionError(path, "is not a file")
        _refuse_foreign(path, status, directory=False)
        source = file.read(FILE_BYTES_MAX + 1)
    if len(source) > FILE_BYTES_MAX:
        raise DefinitionError(path, f"is larger than {FILE_BYTES_MAX} bytes")
    return source


def _refuse_foreign(path: str, status: os.stat_result, *, directory: bool) -> None:
    """Only root has something to lose that the owner of the file has not."""
    if os.geteuid() != 0:
        return
    if status.st_uid not in (0, os.getuid()):
        raise DefinitionError(path, f"belongs to user {status.st_uid}, and root would execute it; chown it to root")
    # In a directory like /tmp only the owner of a file can replace it.
    if status.st_mode & 0o022 and not (directory and status.st_mode & stat.S_ISVTX):
        raise DefinitionError(path, f"can be written by others (mode {status.st_mode & 0o7777:o}); chmod go-w it")
