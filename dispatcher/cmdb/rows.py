"""The CMDB's configuration in few bytes: what stands in force for each key, undecoded, so that a million apps fit. Pure.

Plain dicts of text and bytes (and tuples of them) are no work for the garbage collector; an object per app would stall the loop at
each full collection.
"""

from collections.abc import Iterator

from dispatcher.cmdb import keys
from dispatcher.cmdb.keys import Field, Key

Pairs = tuple[tuple[str, bytes], ...]


class Rows:
    def __init__(self) -> None:
        self.specs: dict[str, bytes] = {}
        self.domains: dict[str, str] = {}
        self.computes: dict[str, bytes] = {}
        self.refused: dict[str, bytes] = {}  # by key: the bad value that stands there; the last good one is in force
        self._words: dict[str, Pairs] = {}
        self._containers: dict[str, Pairs] = {}
        self._pairs = 0

    def __len__(self) -> int:
        return len(self.specs) + len(self.domains) + len(self.computes) + self._pairs

    def __iter__(self) -> Iterator[Key]:
        for app in self.specs:
            yield keys.SpecKey(app)
        for app, pairs in self._words.items():
            for field, _ in pairs:
                yield keys.WordKey(app, Field(field))
        for app, pairs in self._containers.items():
            for container, _ in pairs:
                yield keys.ContainerKey(app, container)
        for domain in self.domains:
            yield keys.DomainKey(domain)
        for name in self.computes:
            yield keys.ComputeKey(name)

    def words(self, app: str) -> dict[Field, bytes]:
        return {Field(field): value for field, value in self._words.get(app, ())}

    def containers(self, app: str) -> Pairs:
        return self._containers.get(app, ())

    def get(self, key: Key) -> bytes | None:
        match key:
            case keys.SpecKey(app):
                return self.specs.get(app)
            case keys.WordKey(app, field):
                return _find(self._words.get(app, ()), field)
            case keys.ContainerKey(app, container):
                return _find(self._containers.get(app, ()), container)
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
                self._put_pair(self._words, app, field, value)
            case keys.ContainerKey(app, container):
                self._put_pair(self._containers, app, container, value)
            case keys.DomainKey(domain):
                self.domains[domain] = value.decode().strip()
            case keys.ComputeKey(name):
                self.computes[name] = value

    def delete(self, key: Key) -> None:
        match key:
            case keys.SpecKey(app):
                self.specs.pop(app, None)
            case keys.WordKey(app, field):
                self._delete_pair(self._words, app, field)
            case keys.ContainerKey(app, container):
                self._delete_pair(self._containers, app, container)
            case keys.DomainKey(domain):
                self.domains.pop(domain, None)
            case keys.ComputeKey(name):
                self.computes.pop(name, None)

    def _put_pair(self, table: dict[str, Pairs], app: str, name: str, value: bytes) -> None:
        pairs = table.get(app)
        if pairs is None:
            table[app] = ((name, value),)
            self._pairs += 1
            return
        kept = tuple(pair for pair in pairs if pair[0] != name)
        self._pairs += 1 - (len(pairs) - len(kept))
        table[app] = (*kept, (name, value))

    def _delete_pair(self, table: dict[str, Pairs], app: str, name: str) -> None:
        pairs = table.get(app, ())
        kept = tuple(pair for pair in pairs if pair[0] != name)
        self._pairs -= len(pairs) - len(kept)
        if kept:
            table[app] = kept
        else:
            table.pop(app, None)


def _find(pairs: Pairs, name: str) -> bytes | None:
    return next((value for key, value in pairs if key == name), None)
