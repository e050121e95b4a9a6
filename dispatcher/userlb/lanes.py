"""Which apps have which lanes and slots, and the commands that bring HAProxy there. Pure.

One turn compares what is wanted with what HAProxy said that it has and answers with commands in the order in which each of them is
safe, whatever happens between two of them. What has to wait (a slot for the last of its requests, a lane for the last of its app's)
is left for a later turn. The rules that keep every request at its own site:

- a lane is taken by an app only when no name leads to it, all its slots are closed and nothing is in it;
- names leave before slots close, slots are open before names come;
- a slot gets another address only when it is closed and empty;
- below a wildcard that has a lane every name of another app is in the maps, too, with COLD where it has none: it comes before the
  wildcard and goes after it;
- no name is deleted before all others are in their places.

A cookie that leads back to a container (for apps that ask for it) names the slot and carries a token of its life; which token
counts for which slot is in a map.
"""

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dispatcher.userlb.config import COLD, lane_name, slot_name

UNKNOWN = 1  # requests that may be somewhere: until somebody has looked again it counts as in use
WEIGHT_MAX = 100
SHADOWS_MAX = 1000  # names of others below a wildcard; one with more stays with the UserProxies


@dataclass(frozen=True)
class Container:
    """One that may get requests."""

    life: str
    address: str  # HOST:PORT
    concurrency: int
    weight: int = WEIGHT_MAX  # among its app's others


@dataclass(frozen=True)
class Site:
    """An app that may have a lane."""

    app: str
    domains: tuple[str, ...]
    containers: tuple[Container, ...]
    response_ms: int
    queue_max: int
    sticky: bool = False
    server_timing: bool = False

    @property
    def policy(self) -> str:
        return f"{self.response_ms}:{self.queue_max}" + (":timed" if self.server_timing else "")


@dataclass(frozen=True, order=True)
class SlotId:
    lane: str
    number: int

    @property
    def path(self) -> str:
        return f"{self.lane}/{slot_name(self.number)}"


@dataclass(frozen=True)
class Slot:
    """As HAProxy tells it."""

    address: str = ""
    concurrency: int = 0
    is_open: bool = False
    in_flight: int = 0  # waiting for this very slot included
    total: int = 0  # that it was ever given
    weight: int = WEIGHT_MAX


@dataclass(frozen=True)
class Actual:
    """What HAProxy has. Slots that were never used need not be in it."""

    routes: Mapping[str, str] = field(default_factory=dict)  # domain -> lane or COLD
    policies: Mapping[str, str] = field(default_factory=dict)  # by lane
    tokens: Mapping[str, str] = field(default_factory=dict)  # by SlotId.path
    slots: Mapping[SlotId, Slot] = field(default_factory=dict)
    in_lane: Mapping[str, int] = field(default_factory=dict)  # requests in a lane: waiting, at a slot or at a UserProxy


@dataclass(frozen=True)
class Memory:
    owners: Mapping[str, str] = field(default_factory=dict)  # lane -> app
    lives: Mapping[SlotId, str] = field(default_factory=dict)
    yielded: frozenset[str] = (
        frozenset()
    )  # apps that gave up their lane to another: they get a free one, and nobody else's


@dataclass(frozen=True)
class Route:
    domain: str
    lane: str
    is_new: bool


@dataclass(frozen=True)
class Unroute:
    domain: str


@dataclass(frozen=True)
class Open:
    slot: SlotId
    address: str
    concurrency: int
    weight: int = WEIGHT_MAX


@dataclass(frozen=True)
class Weigh:
    slot: SlotId
    weight: int


@dataclass(frozen=True)
class Stick:
    """The token of the life that has this slot; None: nobody's cookie counts."""

    path: str
    token: str | None
    is_new: bool


@dataclass(frozen=True)
class Close:
    slot: SlotId


@dataclass(frozen=True)
class Allow:
    lane: str
    policy: str
    is_new: bool


@dataclass(frozen=True)
class Rescue:
    """Let the UserProxies have what waits in a lane that has no open slot left."""

    lane: str


Command = Rescue | Route | Unroute | Open | Close | Weigh | Stick | Allow


def recall(actual: Actual, app_of: Mapping[str, str], lives: Mapping[str, tuple[str, str]]) -> Memory:
    """What a controller that is new can know of a HAProxy that is not. `lives`: address -> (app, life). A lane in which not
    everything speaks for one and the same app has no owner, so that it is emptied before anybody gets it."""
    apps: dict[str, set[str]] = {}
    held: dict[SlotId, str] = {}
    for id, slot in actual.slots.items():
        app, life = lives.get(slot.address, ("", ""))
        if slot.is_open or slot.in_flight:
            apps.setdefault(id.lane, set()).add(app)
            held[id] = life
    for domain, lane in actual.routes.items():
        if lane in apps:  # names alone say nothing of whose requests still wait there
            apps[lane].add(app_of.get(domain, ""))
    lane_of = {next(iter(names)): lane for lane, names in apps.items() if len(names) == 1 and "" not in names}
    owners = {lane: app for app, lane in lane_of.items()}
    return Memory(owners, {id: life for id, life in held.items() if id.lane in owners and life})


def turn(
    sites: Mapping[str, Site],
    below: Mapping[str, Collection[str]],
    actual: Actual,
    memory: Memory,
    *,
    lanes: int,
    slots: int,
    use: Mapping[str, float],
) -> tuple[list[Command], Memory]:
    """`below`: for each wildcard of these sites the names of others under it. `use`: how much an app uses its lane."""
    sites = {app: site for app, site in sites.items() if 0 < len(site.containers) <= slots}
    owners, yielded = _assign(sites, actual, memory, lanes, use)
    lane_of = {app: lane for lane, app in owners.items() if app in sites and app not in yielded}
    closing, opening, weighing, lives = _slots(sites, lane_of, actual, memory.lives, slots)
    opened = {command.slot.lane for command in opening} | {
        id.lane for id, slot in actual.slots.items() if slot.is_open and Close(id) not in closing
    }
    served = {app: lane for app, lane in lane_of.items() if lane in opened}
    allowed = [
        Allow(lane, sites[app].policy, lane not in actual.policies)
        for app, lane in served.items()
        if actual.policies.get(lane) != sites[app].policy
    ]
    unsticking, sticking = _tokens(sites, lane_of, actual.tokens, lives)
    leaving, coming = _moves(actual.routes, _routes(sites, served, below))
    deserted = sorted({command.slot.lane for command in closing} - opened)
    commands = [
        *leaving, *closing, *map(Rescue, deserted), *unsticking, *sticking, *weighing, *opening, *allowed, *coming,
    ]  # fmt: skip
    return commands, Memory(owners, lives, yielded)


def after(actual: Actual, commands: Sequence[Command]) -> Actual:
    """What is there when these have been done, as far as that can be known without looking: what a name led to or a slot took a
    moment ago may still be in use."""
    routes, policies = dict(actual.routes), dict(actual.policies)
    slots, in_lane, tokens = dict(actual.slots), dict(actual.in_lane), dict(actual.tokens)
    for command in commands:
        match command:
            case Route(domain, lane, _):
                if (former := routes.get(domain, COLD)) != COLD:
                    in_lane[former] = max(UNKNOWN, in_lane.get(former, 0))
                routes[domain] = lane
            case Unroute(domain):
                if (former := routes.pop(domain)) != COLD:
                    in_lane[former] = max(UNKNOWN, in_lane.get(former, 0))
            case Open(id, address, concurrency, weight):
                before = slots.get(id, Slot())
                slots[id] = Slot(address, concurrency, True, before.in_flight, before.total, weight)
            case Weigh(id, weight):
                slots[id] = replace(slots[id], weight=weight)
            case Stick(path, None, _):
                del tokens[path]
            case Stick(path, token, _):
                assert token is not None
                tokens[path] = token
            case Close(id):
                slots[id] = replace(slots[id], is_open=False, in_flight=max(UNKNOWN, slots[id].in_flight))
            case Allow(lane, policy, _):
                policies[lane] = policy
    return Actual(routes, policies, tokens, slots, in_lane)


def read_again(actual: Actual, fresh: Actual, lanes: Collection[str]) -> Actual:
    """With what HAProxy says of these lanes now."""
    kept = {id: slot for id, slot in actual.slots.items() if id.lane not in lanes}
    return replace(actual, slots={**kept, **fresh.slots}, in_lane={**actual.in_lane, **fresh.in_lane})


def unsettled(actual: Actual) -> set[str]:
    """Lanes in which somebody may wait for a request to end."""
    closed = {id.lane for id, slot in actual.slots.items() if slot.in_flight and not slot.is_open}
    routed = {*actual.routes.values()}
    return closed | {lane for lane, count in actual.in_lane.items() if count and lane not in routed}


def _in_use(actual: Actual) -> set[str]:
    return {
        *actual.routes.values(),
        *(lane for lane, count in actual.in_lane.items() if count),
        *(id.lane for id, slot in actual.slots.items() if slot.is_open or slot.in_flight),
    }


def _assign(
    sites: Mapping[str, Site], actual: Actual, memory: Memory, lanes: int, use: Mapping[str, float]
) -> tuple[dict[str, str], frozenset[str]]:
    """Free lanes go to apps that have none; where none is free, the least used is given up, to be free in a later turn."""
    yielded = memory.yielded & frozenset(sites)
    in_use = _in_use(actual)
    owners = {
        lane: app for lane, app in memory.owners.items() if (app in sites and app not in yielded) or lane in in_use
    }
    owning = {*owners.values()}
    waiting = sorted((app for app in sites if app not in owning), key=lambda app: app in yielded)
    free = [lane for lane in map(lane_name, range(lanes)) if lane not in owners and lane not in in_use]
    given = dict(zip(free, waiting, strict=False))
    yielded -= frozenset(given.values())
    staying = [app for app in owners.values() if app in sites and app not in yielded]
    short = sum(app not in yielded for app in waiting[len(free) :]) - (len(owners) - len(staying))
    least_used = sorted(staying, key=lambda app: (use.get(app, 0.0), app))
    return owners | given, yielded | frozenset(least_used[: max(0, short)])


def _slots(
    sites: Mapping[str, Site],
    lane_of: Mapping[str, str],
    actual: Actual,
    lives: Mapping[SlotId, str],
    slots: int,
) -> tuple[list[Close], list[Open], list[Weigh], dict[SlotId, str]]:
    containers = {(lane, each.life): each for app, lane in lane_of.items() for each in sites[app].containers}
    closing = [
        Close(id)
        for id, slot in sorted(actual.slots.items())
        if slot.is_open and not _fits(slot, containers.get((id.lane, lives.get(id, ""))))
    ]
    held = {
        id: life for id, life in lives.items() if (id.lane, life) in containers or not _is_free(actual.slots.get(id))
    }
    opening, weighing = [], []
    slot_of = {(id.lane, life): id for id, life in held.items()}
    for (lane, life), container in containers.items():
        id = slot_of.get((lane, life)) or _free_slot(lane, slots, held, actual)
        if id is None:
            continue
        slot = actual.slots.get(id, Slot())
        if slot.address != container.address and not _is_free(slot):
            continue  # it is empty first, and then another's
        held[id] = life
        if not slot.is_open or slot.concurrency != container.concurrency:
            opening.append(Open(id, container.address, container.concurrency, container.weight))
        elif slot.weight != container.weight:
            weighing.append(Weigh(id, container.weight))
    return closing, opening, weighing, held


def token_of(life: str) -> str:
    return f"{zlib.crc32(life.encode()):08x}"


def _tokens(
    sites: Mapping[str, Site], lane_of: Mapping[str, str], actual: Mapping[str, str], lives: Mapping[SlotId, str]
) -> tuple[list[Stick], list[Stick]]:
    sticky = {lane for app, lane in lane_of.items() if sites[app].sticky}
    wanted = {id.path: token_of(life) for id, life in lives.items() if id.lane in sticky}
    gone = [Stick(path, None, False) for path in actual if path not in wanted]
    given = [Stick(path, token, path not in actual) for path, token in wanted.items() if actual.get(path) != token]
    return gone, given


def _fits(slot: Slot, container: Container | None) -> bool:
    return container is not None and slot.address == container.address


def _is_free(slot: Slot | None) -> bool:
    return slot is None or not (slot.is_open or slot.in_flight)


def _free_slot(lane: str, slots: int, held: Mapping[SlotId, str], actual: Actual) -> SlotId | None:
    ids = (SlotId(lane, number) for number in range(slots))
    return next((id for id in ids if id not in held and _is_free(actual.slots.get(id))), None)


def _routes(
    sites: Mapping[str, Site], served: Mapping[str, str], below: Mapping[str, Collection[str]]
) -> dict[str, str]:
    wanted = {
        domain: lane
        for app, lane in served.items()
        for domain in sites[app].domains
        if len(below.get(domain, ())) <= SHADOWS_MAX
    }
    for domain in [domain for domain in wanted if domain.startswith("*.")]:
        for name in below.get(domain, ()):
            wanted.setdefault(name, COLD)
    return wanted


def _moves(actual: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[list[Command], list[Command]]:
    """What leads to the wrong lane leads to none at first. Names are deleted when all others are in their places: what a deleted
    name stood before is then its site's own."""
    leaving: list[Command] = [
        Route(domain, COLD, False) for domain, lane in sorted(actual.items()) if lane not in (COLD, wanted.get(domain))
    ]
    coming: list[Command] = [
        Route(domain, wanted[domain], domain not in actual)
        for domain in sorted(wanted, key=depth, reverse=True)
        if wanted[domain] != (COLD if domain in actual and actual[domain] != wanted[domain] else actual.get(domain))
    ]
    return leaving, coming + [Unroute(domain) for domain in sorted(actual) if domain not in wanted]


def depth(domain: str) -> int:
    """Names below a wildcard are deeper than it."""
    return domain.removeprefix("*.").count(".")


def under(wildcard: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that are below it, wildcards too."""
    suffix = wildcard[1:]
    return [name for name in names if name != wildcard and name.removeprefix("*").endswith(suffix)]
