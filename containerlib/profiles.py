"""A profile of system calls in the format of OCI runtimes (`linux.seccomp`): JSON -> checked values. Pure.

    parse(text).rules[0] == Rule("mlock", Action("allow"), ())

What cannot be done as it is written is refused, not left out: notifying a supervisor, tracing, flags. Calls of another
architecture end the program whatever `architectures` says: their numbers mean other calls.
"""

import errno
import json
from dataclasses import dataclass
from typing import Any

from containerlib.checks import SpecError, of_type, whole

_ACTIONS = {
    "SCMP_ACT_ALLOW": "allow",
    "SCMP_ACT_LOG": "log",
    "SCMP_ACT_ERRNO": "errno",
    "SCMP_ACT_TRAP": "trap",
    "SCMP_ACT_KILL": "kill_thread",
    "SCMP_ACT_KILL_THREAD": "kill_thread",
    "SCMP_ACT_KILL_PROCESS": "kill_process",
}
_COMPARISONS = frozenset(f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
_FIELDS = frozenset({"defaultAction", "defaultErrnoRet", "architectures", "syscalls", "flags"})
_FIELDS_OF_RULE = frozenset({"names", "action", "errnoRet", "args"})
_FIELDS_OF_ARGUMENT = frozenset({"index", "value", "valueTwo", "op"})
NUMBER_MAX = (1 << 64) - 1
ERRNO_MAX = 4095


@dataclass(frozen=True, slots=True)
class Action:
    kind: str  # one of _ACTIONS' values
    number: int = 0  # of errno

    @property
    def lets_through(self) -> bool:
        return self.kind in ("allow", "log")


@dataclass(frozen=True, slots=True)
class Argument:
    """`value_two` counts for MASKED_EQ: `argument & value == value_two`."""

    index: int
    comparison: str
    value: int
    value_two: int


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    action: Action
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    default: Action
    rules: tuple[Rule, ...]


def parse(text: str) -> Profile:
    """Raises SpecError."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SpecError("seccomp", text[:40], f"is not JSON: {error}") from error
    _known("seccomp", of_type("seccomp", found, dict, "an object"), _FIELDS)
    if found.get("flags"):
        raise SpecError("seccomp.flags", found["flags"], "cannot be had: leave them out")
    default = _action("seccomp.defaultAction", found.get("defaultAction"), found.get("defaultErrnoRet"))
    rules = of_type("seccomp.syscalls", found.get("syscalls", []), list, "a list")
    return Profile(default, tuple(rule for number, each in enumerate(rules) for rule in _rules(number, each)))


def _rules(number: int, found: Any) -> list[Rule]:
    field = f"seccomp.syscalls[{number}]"
    _known(field, of_type(field, found, dict, "an object"), _FIELDS_OF_RULE)
    action = _action(f"{field}.action", found.get("action"), found.get("errnoRet"))
    arguments = tuple(
        _argument(f"{field}.args[{place}]", each)
        for place, each in enumerate(of_type(f"{field}.args", found.get("args") or [], list, "a list"))
    )
    names = of_type(f"{field}.names", found.get("names"), list, "a list of names")
    return [Rule(of_type(f"{field}.names", name, str, "a name"), action, arguments) for name in names]


def _action(field: str, word: Any, number: Any) -> Action:
    if word not in _ACTIONS:
        raise SpecError(field, word, f"is none of {', '.join(_ACTIONS)}")
    if _ACTIONS[word] != "errno":
        return Action(_ACTIONS[word])
    return Action("errno", errno.EPERM if number is None else whole(f"{field} errnoRet", number, 0, ERRNO_MAX))


def _argument(field: str, found: Any) -> Argument:
    _known(field, of_type(field, found, dict, "an object"), _FIELDS_OF_ARGUMENT)
    if found.get("op") not in _COMPARISONS:
        raise SpecError(f"{field}.op", found.get("op"), f"is none of {', '.join(sorted(_COMPARISONS))}")
    return Argument(
        whole(f"{field}.index", found.get("index"), 0, 5),
        found["op"].removeprefix("SCMP_CMP_"),
        whole(f"{field}.value", found.get("value"), 0, NUMBER_MAX),
        whole(f"{field}.valueTwo", found.get("valueTwo", 0), 0, NUMBER_MAX),
    )


def _known(field: str, found: dict[str, Any], known: frozenset[str]) -> None:
    if unknown := sorted(set(found) - known):
        raise SpecError(
            f"{field}.{unknown[0]}", found[unknown[0]], f"cannot be had: there is {', '.join(sorted(known))}"
        )
