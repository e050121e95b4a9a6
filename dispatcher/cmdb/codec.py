"""Values of the CMDB as bytes and as types, and the one place where an app's effective values are put together. Pure.

A value that breaks a rule raises Refused, which names the key, the value and the rule.
"""

from collections.abc import Callable, Mapping
from typing import Any, assert_never

import msgspec

from dispatcher import units
from dispatcher.cmdb import keys
from dispatcher.cmdb.keys import Field, Key
from dispatcher.domain import (
    CONTAINERS_MAX,
    UID_FIRST,
    UID_LAST,
    App,
    AppSpec,
    ComputeRow,
    ContainerRow,
    EventRow,
    Scaling,
    Switch,
    check_app_name,
)

AUTO = "auto"
SHOWN_MAX = 200  # characters of a refused value that are kept

Row = AppSpec | ContainerRow | ComputeRow | EventRow | Scaling
Word = int | float | Switch | Scaling | None  # None: `auto`

_encoder = msgspec.json.Encoder()


class Refused(ValueError):
    def __init__(self, key: str, value: str, rule: str) -> None:
        super().__init__(f"{key}: {value!r} is refused: {rule}")
        self.key = key
        self.value = value
        self.rule = rule


def encode(row: Row) -> bytes:
    return _encoder.encode(row)


def shown(value: bytes) -> str:
    """For people: what stands in a key, cut and printable whatever it is."""
    return value[: SHOWN_MAX * 4].decode("utf-8", "replace")[:SHOWN_MAX]


def _containers(word: str) -> int | None:
    if word == AUTO:
        return None
    if not (word.isascii() and word.isdigit() and len(word) <= 9 and int(word) <= CONTAINERS_MAX):
        raise ValueError(f"it must be a whole number from 0 to {CONTAINERS_MAX}, or {AUTO}")
    return int(word)


def _cpu(word: str) -> float | None:
    return None if word == AUTO else units.parse_cpu(word)


def _memory(word: str) -> int | None:
    return None if word == AUTO else units.parse_memory(word)


def _switch(word: str) -> Switch:
    try:
        return Switch(word)
    except ValueError:
        raise ValueError(f"it must be one of {', '.join(Switch)}") from None


def _uid_base(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 12 and UID_FIRST <= int(word) <= UID_LAST):
        raise ValueError(f"it must be a whole number from {UID_FIRST} to {UID_LAST}")
    return int(word)


def _scaling(word: str) -> Scaling:
    scaling = _scaling_json.decode(word)
    if scaling.containers is not None and not 0 <= scaling.containers <= CONTAINERS_MAX:
        raise ValueError(f"containers must be from 0 to {CONTAINERS_MAX}")
    if scaling.cpu is not None and not units.CPU_MIN <= scaling.cpu <= units.CPU_MAX:
        raise ValueError(f"cpu must be from {units.CPU_MIN:g} to {units.CPU_MAX:g} cores")
    if scaling.memory_bytes is not None and scaling.memory_bytes < units.MEMORY_MIN:
        raise ValueError(f"memory_bytes must be at least {units.MEMORY_MIN}")
    return scaling


_scaling_json = msgspec.json.Decoder(Scaling)
_WORDS: dict[Field, Callable[[str], Word]] = {
    Field.CONTAINERS: _containers,
    Field.CPU: _cpu,
    Field.MEMORY: _memory,
    Field.SWITCH: _switch,
    Field.SCALING: _scaling,
    Field.UID_BASE: _uid_base,
}

_spec = msgspec.json.Decoder(AppSpec)
_container = msgspec.json.Decoder(ContainerRow)
_compute = msgspec.json.Decoder(ComputeRow)
_event = msgspec.json.Decoder(EventRow)


def _decode[T](key: str, value: bytes, function: Callable[[Any], T], argument: str | bytes) -> T:
    try:
        return function(argument)
    except msgspec.DecodeError as error:
        not_json = "" if isinstance(error, msgspec.ValidationError) else "it is not JSON: "
        raise Refused(key, shown(value), f"{not_json}{error}") from error
    except ValueError as error:
        raise Refused(key, shown(value), str(error)) from error


def _text(key: str, value: bytes) -> str:
    """Without the newline that `echo 2 | etcdctl put KEY` leaves."""
    return _decode(key, value, lambda data: str(data, "utf-8"), value).strip()


def parse_word(app: str, field: Field, value: bytes) -> Word:
    key = keys.word_key(app, field)
    return _decode(key, value, _WORDS[field], _text(key, value))


def decode_spec(app: str, value: bytes) -> AppSpec:
    return _decode(keys.spec_key(app), value, _spec.decode, value)


def decode_domain(domain: str, value: bytes) -> str:
    key = keys.domain_key(domain)
    return _decode(key, value, check_app_name, _text(key, value))


def decode_container(app: str, container: str, value: bytes) -> ContainerRow:
    return _decode(keys.container_key(app, container), value, _container.decode, value)


def decode_compute(name: str, value: bytes) -> ComputeRow:
    return _decode(keys.compute_key(name), value, _compute.decode, value)


def decode_event(app: str, id: str, value: bytes) -> EventRow:
    return _decode(keys.event_key(app, id), value, _event.decode, value)


def check(key: Key, value: bytes) -> None:
    """Raises Refused if this value may not stand in this key."""
    match key:
        case keys.SpecKey(app):
            decode_spec(app, value)
        case keys.WordKey(app, field):
            parse_word(app, field, value)
        case keys.DomainKey(domain):
            decode_domain(domain, value)
        case keys.ContainerKey(app, container):
            decode_container(app, container, value)
        case keys.ComputeKey(name):
            decode_compute(name, value)
        case keys.EventKey(app, id):
            decode_event(app, id, value)
        case _:
            assert_never(key)


def assemble(name: str, spec: AppSpec, words: Mapping[Field, bytes]) -> App:
    """One app from its keys: the hand-written word unless it is `auto` or absent, then scaling's, then the default."""
    written = {field: parse_word(name, field, value) for field, value in words.items()}
    scaling = written.pop(Field.SCALING, None)
    assert isinstance(scaling, Scaling | None)
    values: dict[str, Any] = {}
    for field, attribute in ((Field.CONTAINERS, "containers"), (Field.CPU, "cpu"), (Field.MEMORY, "memory_bytes")):
        value = written.get(field)
        if value is None and scaling is not None:
            value = getattr(scaling, attribute)
        if value is not None:
            values[attribute] = value
    for field, attribute in ((Field.SWITCH, "switch"), (Field.UID_BASE, "uid")):
        if field in written:
            values[attribute] = written[field]
    return App(name, spec, **values)
