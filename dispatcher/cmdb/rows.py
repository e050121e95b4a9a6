"""The CMDB's configuration in few bytes: what stands in force for each key, undecoded, so that a million apps fit. Pure.

Only dicts from text to text or bytes: the garbage collector does not look into those. With an object or a tuple for each app, a
full collection stalled the loop for 0.7 s at a million apps.
"""

from collections.abc import Iterator

from dispatcher.cmdb import keys
from dispatcher.cmdb.keys import Field, Key


class _Table:
    """Values by app and name, and the names of each app."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}  # by "APP/NAME"
        self._names: dict[str, str] = {}  # by app, with blanks between

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for app in self._names:
            for name in self.names(app):
                yield app, name

    def names(self, app: str) -> list[str]:
        return self._names.get(app, "").split()

    def of(self, app: str) -> dict[str, bytes]:
        return {name: self._values[f"{app}/{name}"] for name in self.names(app)}

    def get(self, app: str, name: str) -> bytes | None:
        return self._values.get(f"{app}/{name}")

    def put(self, app: str, name: str, value: bytes) -> None:
        key = f"{app}/{name}"
        if key not in self._values:
            before = self._names.get(app)
            self._names[app] = f"{before} {name}" if before else name
        self._values[key] = value

    def delete(self, app: str, name: str) -> None:
        if self._values.pop(f"{app}/{name}", None) is None:
            return
        left = [each for each in self.names(app) if each != name]
        if left:
            self._names[app] = " ".join(left)
        else:
            del self._names[app]


class Rows:
    def __init__(self) -> None:
        self.specs: dict[str, bytes] = {}
        self.domains: dict[str, str] = {}
        self.computes: dict[str, bytes] = {}
        self.refused: dict[str, bytes] = {}  # by key: the bad value that stands there; the last good one is in force
        self._words = _Table()
        self._containers = _Table()

    def __len__(self) -> int:
        return len(self.specs) + len(self.domains) + len(self.computes) + len(self._words) + len(self._containers)

    def __iter__(self) -> Iterator[Key]:
        for app in self.specs:
            yield keys.SpecKey(app)
        for app, field in self._words:
            yield keys.WordKey(app, Field(field))
        for app, container in self._containers:
            yield keys.ContainerKey(app, container)
        for domain in self.domains:
            yield keys.DomainKey(domain)
        for name in self.computes:
            yield keys.ComputeKey(name)

    def words(self, app: str) -> dict[Field, bytes]:
        return {Field(field): value for field, value in self._words.of(app).items()}

    def containers(self, app: str) -> dict[str, bytes]:
        return self._containers.of(app)

    def get(self, key: Key) -> bytes | None:
        match key:
            case keys.SpecKey(app):
                return self.specs.get(app)
            case keys.WordKey(app, field):
                return self._words.get(app, field)
            case keys.ContainerKey(app, container):
                return self._containers.get(app, container)
            case keys.DomainKey(domain):
                app_name = self.domains.get(domain)
                return None if app_name is None else app_name.encode()
            case keys.ComputeKey(name):
                return self.computes.get(name)
        return None

    def put(self, key: Key, value: bytes) -> None:
        match key:
            case keys.SpecKey(app):
                self.specs[app] = value
            case keys.WordKey(app, field):
                self._words.put(app, field, value)
            case keys.ContainerKey(app, container):
                self._containers.put(app, container, value)
            case keys.DomainKey(domain):
                self.domains[domain] = value.decode().strip()
            case keys.ComputeKey(name):
                self.computes[name] = value

    def delete(self, key: Key) -> None:
        match key:
            case keys.SpecKey(app):
                self.specs.pop(app, None)
            case keys.WordKey(app, field):
                self._words.delete(app, field)
            case keys.ContainerKey(app, container):
                self._containers.delete(app, container)
            case keys.DomainKey(domain):
                self.domains.pop(domain, None)
            case keys.ComputeKey(name):
                self.computes.pop(name, None)
