"""The keys of the CMDB: built from names, and parsed back into small types. Pure.

    spec_key("blog") == "/fastcontainer/apps/blog/spec"
    parse("/fastcontainer/apps/blog/cpu") == WordKey("blog", Field.CPU)

Nothing is checked where a key is built: names were checked where they came in.
"""

import re
from enum import StrEnum

import msgspec

from dispatcher.domain import check_app_name, check_domain

PREFIX = "/fastcontainer/"
APPS = PREFIX + "apps/"
COMPUTES = PREFIX + "computes/"
CONTAINERS = PREFIX + "containers/"
DOMAINS = PREFIX + "domains/"
EVENTS = PREFIX + "events/"
UIDS = PREFIX + "uids/"  # uids/BASE = APP: who holds which range of user ids; only dispatcher/coreapi reads it

# What routing and running need sorts together, before the bulk (events, jobs, usage) that no proxy wants to hear of.
CONFIGURATION, CONFIGURATION_END = APPS, EVENTS

_CONTAINER_ID = re.compile(r"[1-9][0-9]{0,8}")
_COMPUTE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_EVENT_ID = re.compile(r"[A-Za-z0-9._-]{1,300}")


class Field(StrEnum):
    """The keys of an app that hold one plain word, and `scaling`, which holds what stands in for a word that is `auto`."""

    CONTAINERS = "containers"
    CPU = "cpu"
    MEMORY = "memory"
    SWITCH = "switch"
    SCALING = "scaling"
    UID_BASE = "uid_base"


_FIELDS: dict[str, Field] = {field.value: field for field in Field}


class SpecKey(msgspec.Struct, frozen=True):
    app: str


class WordKey(msgspec.Struct, frozen=True):
    app: str
    field: Field


class DomainKey(msgspec.Struct, frozen=True):
    domain: str


class ContainerKey(msgspec.Struct, frozen=True):
    app: str
    container: str


class ComputeKey(msgspec.Struct, frozen=True):
    name: str


class EventKey(msgspec.Struct, frozen=True):
    app: str
    id: str


Key = SpecKey | WordKey | DomainKey | ContainerKey | ComputeKey | EventKey


def spec_key(app: str) -> str:
    return f"{APPS}{app}/spec"


def word_key(app: str, field: str) -> str:
    return f"{APPS}{app}/{Field(field)}"


def domain_key(domain: str) -> str:
    return DOMAINS + domain


def container_key(app: str, container: str) -> str:
    return f"{CONTAINERS}{app}/{container}"


def compute_key(name: str) -> str:
    return COMPUTES + name


def event_key(app: str, id: str) -> str:
    return f"{EVENTS}{app}/{id}"


def uid_key(base: int) -> str:
    return f"{UIDS}{base}"


def app_prefix(app: str) -> str:
    """Of the spec and the words of one app."""
    return f"{APPS}{app}/"


def containers_prefix(app: str) -> str:
    return f"{CONTAINERS}{app}/"


def events_prefix(app: str) -> str:
    return f"{EVENTS}{app}/"


def text(key: Key) -> str:
    match key:
        case SpecKey(app):
            return spec_key(app)
        case WordKey(app, field):
            return word_key(app, field)
        case DomainKey(domain):
            return domain_key(domain)
        case ContainerKey(app, container):
            return container_key(app, container)
        case ComputeKey(name):
            return compute_key(name)
        case EventKey(app, id):
            return event_key(app, id)


def parse(key: str) -> Key:
    """Raises ValueError with the rule that the key breaks."""
    if not key.startswith(PREFIX):
        raise ValueError(f"it does not begin with {PREFIX}")
    match key[len(PREFIX) :].split("/"):
        case ["apps", app, "spec"]:
            return SpecKey(check_app_name(app))
        case ["apps", app, word] if word in _FIELDS:
            return WordKey(check_app_name(app), _FIELDS[word])
        case ["apps", _, word]:
            raise ValueError(f"{word!r} is none of spec, {', '.join(Field)}")
        case ["containers", app, container]:
            return ContainerKey(check_app_name(app), check_container_id(container))
        case ["domains", domain]:
            return DomainKey(check_domain(domain))
        case ["computes", name]:
            return ComputeKey(check_compute_name(name))
        case ["events", app, id] if _EVENT_ID.fullmatch(id):
            return EventKey(check_app_name(app), id)
    raise ValueError(f"{key[:260]!r} is not a key of the CMDB's schema")


def app_of(key: str) -> str | None:
    """The app whose history a key belongs to, whether the rest of the key is valid or not."""
    match key.removeprefix(PREFIX).split("/"):
        case ["apps" | "containers" | "events", app, *_]:
            try:
                return check_app_name(app)
            except ValueError:
                return None
    return None


def check_container_id(id: str) -> str:
    if not _CONTAINER_ID.fullmatch(id):
        raise ValueError(f"container id {id[:40]!r} is not a whole number from 1 on")
    return id


def check_compute_name(name: str) -> str:
    if not _COMPUTE.fullmatch(name):
        raise ValueError(f"compute name {name[:260]!r} is not a host name")
    return name
