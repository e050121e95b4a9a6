"""What turns a blank into somebody: the message that wakes a site. Pure values, standard library only (the blank reads it)."""

import json
from dataclasses import dataclass, field

from containerlib.idmap import APP_USER


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
    user: int = APP_USER  # as it is numbered inside; None for `group`: the same
    group: int | None = None
    groups: tuple[int, ...] = ()
    capabilities: int = 0  # over its own ids, as a mask
    apparmor: str = ""  # a profile that the kernel has loaded
    gate: bool = False  # with all its files in place it says `gate` and waits for `go`

    def to_bytes(self) -> bytes:
        # A site that is woken is its own user and passes no gate: what is not said need not be read.
        more = self.groups or self.capabilities or self.apparmor or self.gate
        usual = self.user == APP_USER and self.group is None and not more
        return json.dumps({name: getattr(self, name) for name in (_USUAL if usual else self.__slots__)}).encode()

    @classmethod
    def from_bytes(cls, message: bytes) -> "Identity":
        values = json.loads(message)
        values["command"] = tuple(values["command"])
        values["mounts"] = tuple(values["mounts"])
        if "groups" in values:
            values["groups"] = tuple(values["groups"])
        return cls(**values)


_USUAL = tuple(
    name for name in Identity.__slots__ if name not in ("user", "group", "groups", "capabilities", "apparmor", "gate")
)
