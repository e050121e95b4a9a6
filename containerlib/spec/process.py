"""What runs, as whom, and how it is ended. Pure."""

from dataclasses import dataclass
from signal import Signals

from containerlib import idmap
from containerlib.checks import SpecError, absolute_path, seconds, signal_number, text, whole
from containerlib.units import format_duration

STOP_GRACE_S = 10.0
LOG_BYTES = 10 << 20
# A container's own ids inside: 0 to this, and nobody.
USER_ID_MAX = idmap.IDS - 2
ID_BASE_MIN = 1 << 16  # people and services have 16 bits
ID_BASE_MAX = (1 << 31) - 1 - idmap.IDS


@dataclass(frozen=True, slots=True)
class User:
    """By number, or by name as the container's own /etc/passwd and /etc/group know it. `user` None: its root's usual one, `app`
    with the host's /usr, of an image the one that it names. `group` None: the user's own."""

    user: int | str | None = None
    group: int | str | None = None
    groups: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        if self.user is not None:
            _identity("user", self.user)
        if self.group is not None:
            _identity("group", self.group)
        for each in self.groups:
            _identity("groups", each)


def _identity(field: str, value: int | str) -> None:
    if isinstance(value, str):
        if not text(field, value):
            raise SpecError(field, value, "is an empty name")
    elif value != idmap.NOBODY:
        whole(field, value, 0, USER_ID_MAX)


def check_id_base(value: int) -> int:
    """The first of the host's ids that are the container's."""
    return whole("id_base", value, ID_BASE_MIN, ID_BASE_MAX)


@dataclass(frozen=True, slots=True)
class Stop:
    """`signal` first, SIGKILL after `grace_s`; at once where nobody would hear the signal."""

    signal: Signals = Signals.SIGTERM
    grace_s: float = STOP_GRACE_S

    def __post_init__(self) -> None:
        signal_number("stop.signal", self.signal)
        seconds("stop.grace", self.grace_s, zero=True)

    def describe(self) -> str:
        return f"{self.signal.name}, SIGKILL after {format_duration(self.grace_s)}"


@dataclass(frozen=True, slots=True)
class Log:
    """Files of the host that get what the program writes; empty: the container's own log. What reaches `bytes_max` is moved
    aside once, as NAME.1."""

    stdout: str = ""
    stderr: str = ""
    bytes_max: int = LOG_BYTES

    def __post_init__(self) -> None:
        for field, path in (("log.stdout", self.stdout), ("log.stderr", self.stderr)):
            if path:
                absolute_path(field, path)
        whole("log.bytes_max", self.bytes_max, 4096, 1 << 40)
