"""Which app a request is for, and which of its containers gets it. Pure."""

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from dispatcher.domain import App, Status, Switch
from dispatcher.problems import Code, Problem

HOST_CHARACTERS_MAX = 253 + len(".:65535")
_HOST = re.compile(r"([a-z0-9_.-]+?)\.?(?::\d{1,5})?|(\[[0-9a-f:.]+\])(?::\d{1,5})?")

# User agents that ask on their own, not for a person who waits: crawlers, uptime monitors, health checkers, link previews.
# They do not wake a site unless its policy says `wake_by_bots`.
BOTS = re.compile(
    r"bot\b|bot/|crawl|spider|slurp|archiver|facebookexternalhit|preview|pingdom|uptime|statuscake|site24x7|newrelic|datadog"
    r"|checkly|freshping|hetrixtools|monitor|health.?check|kube-probe|googlehc|prometheus|blackbox|consul|haproxy|zgrab|masscan"
    r"|nmap|censys|expanse|nagios|check_http|zabbix",
    re.IGNORECASE,
)


class Backend(NamedTuple):
    """A container as this proxy may use it. `life` is empty for one on another Compute: its Web Dispatcher counts it."""

    app: str
    container: str
    compute: str
    address: tuple[str, int]  # to dial: the container itself, or the Web Dispatcher of its Compute
    life: str
    concurrency: int
    remote: bool

    @property
    def key(self) -> str:
        """What requests are counted by."""
        return self.life or f"{self.app}/{self.container}@{self.compute}"


class Asleep(NamedTuple):
    """A container that does not run: what choosing the one to wake looks at."""

    container: str
    compute: str
    status: Status


class Chance(Protocol):
    def randrange(self, stop: int, /) -> int: ...


def host_name(header: str) -> str:
    """The name that domains/ is searched for; raises ValueError. The header itself goes to the container as it came."""
    if len(header) > HOST_CHARACTERS_MAX:
        raise ValueError(f"a host name has at most 253 characters, this one {len(header)}")
    match = _HOST.fullmatch(header.lower())
    if match is None:
        raise ValueError("this is not a host name")
    return match[1] or match[2]


def check_switch(app: App) -> None:
    match app.switch:
        case Switch.OFF:
            raise Problem(Code.SWITCHED_OFF, "This site is switched off.")
        case Switch.MAINTENANCE:
            raise Problem(Code.MAINTENANCE, "This site is being worked on.", retry_after_s=300)
        case Switch.ON:
            pass


def check_length(content_length: str, bytes_max: int) -> None:
    """Of a body that says its length; the others are counted as they come."""
    if content_length.isdecimal() and int(content_length) > bytes_max:
        raise Problem(Code.BODY_TOO_LARGE, f"a body of {content_length} bytes, of {bytes_max} that are allowed")


def is_bot(user_agent: str) -> bool:
    return BOTS.search(user_agent[:500]) is not None


def pick(running: Sequence[Backend], in_flight: dict[str, int], rng: Chance) -> Backend | None:
    """The one with less in flight of two at random: as good as the least of all, and proxies do not flock to the same one."""
    if len(running) < 2:
        return running[0] if running else None
    first = rng.randrange(len(running))
    second = rng.randrange(len(running) - 1)
    one, other = running[first], running[second + (second >= first)]
    return one if in_flight.get(one.key, 0) <= in_flight.get(other.key, 0) else other


def to_wake(app: str, asleep: Sequence[Asleep]) -> Asleep | None:
    """The same for every proxy that sees the same rows: one that starts or is frozen, else by rendezvous hash; failed ones last."""
    return min(asleep, key=lambda row: (_reluctance(row.status), -_weight(app, row.container)), default=None)


def home(app: str, computes: Sequence[str]) -> str | None:
    """The Compute that is asked for an app which has no rows yet; the same for every proxy."""
    return max(computes, key=lambda compute: _weight(app, compute), default=None)


def _reluctance(status: Status) -> int:
    match status:
        case Status.STARTING | Status.FROZEN:
            return 0
        case Status.REGISTERED | Status.RUNNING:
            return 1
        case Status.DRAINING:
            return 2
        case Status.FAILED:
            return 3


def _weight(app: str, other: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{app}\0{other}".encode(), digest_size=8).digest())
