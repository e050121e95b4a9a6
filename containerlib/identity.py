"""What turns a blank into somebody: the message that wakes a site. Pure values, standard library only (the blank reads it)."""

import json
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Identity:
    """`mounts` are the targets of the detached mounts that follow in a message of their own, as descriptors in the same order."""

    hostname: str
    uid: int
    command: tuple[str, ...]
    workdir: str = "/"
    env: dict[str, str] = field(default_factory=dict)
    mounts: tuple[str, ...] = ()
    address: str = ""
    init: bool = True
    spawn: bool = False  # the program need not be the init's own child (see blank.py)
    gate: bool = False  # with all its files in place it says `gate` and waits for `go`

    def to_bytes(self) -> bytes:
        # A site that is woken passes no gate: what is not said need not be read.
        names = self.__slots__ if self.gate else _USUAL
        return json.dumps({name: getattr(self, name) for name in names}).encode()

    @classmethod
    def from_bytes(cls, message: bytes) -> "Identity":
        values = json.loads(message)
        values["command"] = tuple(values["command"])
        values["mounts"] = tuple(values["mounts"])
        return cls(**values)


_USUAL = tuple(name for name in Identity.__slots__ if name != "gate")
