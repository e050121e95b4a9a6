"""Which apps get which lanes, and that no command on the way sends a name to another site."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.userlb import lanes
from dispatcher.userlb.config import COLD
from dispatcher.userlb.lanes import (
    Actual,
    Allow,
    Close,
    Command,
    Container,
    Memory,
    Open,
    Rescue,
    Route,
    Site,
    Slot,
    SlotId,
    Stick,
    Unroute,
    Weigh,
)

S1, S2 = SlotId("lane0", 0), SlotId("lane0", 1)


def container(app: str, number: int = 1, generation: int = 1) -> Container:
    return Container(f"{app}/{number}.{generation}", f"10.0.0.{number}:{generation}", 8)


def site(app: str, *domains: str, containers: tuple[Container, ...] | None = None) -> Site:
    return Site(
        app, domains or (f"{app}.test",), (container(app),) if containers is None else containers, 120_000, 1000
    )


class Haproxy:
    """What HAProxy does with the commands, as far as it matters here."""

    def __init__(self) -> None:
        self.routes: dict[str, str] = {}
        self.policies: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.slots: dict[SlotId, Slot] = {}
        self.in_lane: dict[str, int] = {}

    def take(self, command: Command) -> None:
        match command:
            case Route(domain, lane, is_new):
                assert is_new == (domain not in self.routes)
                self.routes[domain] = lane
            case Unroute(domain):
                del self.routes[domain]
            case Open(id, address, concurrency, weight):
                before = self.slots.get(id, Slot())
                self.slots[id] = replace(before, address=address, concurrency=concurrency, is_open=True, weight=weight)
            case Weigh(id, weight):
                assert self.slots[id].is_open
                self.slots[id] = replace(self.slots[id], weight=weight)
            case Stick(path, None, _):
                del self.tokens[path]
            case Stick(path, token, is_new):
                assert is_new == (path not in self.tokens)
                self.tokens[path] = token or ""
            case Close(id):
                self.slots[id] = replace(self.slots[id], is_open=False)
            case Rescue(lane):
                assert not any(slot.is_open for id, slot in self.slots.items() if id.lane == lane)
            case Allow(lane, policy, is_new):
                assert is_new == (lane not in self.policies)
                self.policies[lane] = policy

    def actual(self) -> Actual:
        return Actual(dict(self.routes), dict(self.policies), dict(self.tokens), dict(self.slots), dict(self.in_lane))


def settle(haproxy: Haproxy, sites: list[Site], memory: Memory, *, below=None, lanes_max=2, use=None) -> Memory:
    for _ in range(10):
        commands, memory = lanes.turn(
            {each.app: each for each in sites},
            below or {},
            haproxy.actual(),
            memory,
            lanes=lanes_max,
            slots=2,
            use=use or {},
        )
        if not commands:
            return memory
        for command in commands:
            haproxy.take(command)
    raise AssertionError("it never comes to rest")


def test_a_lane_is_filled_before_names_come_and_emptied_after_they_left() -> None:
    commands, memory = lanes.turn({"blog": site("blog")}, {}, Actual(), Memory(), lanes=1, slots=2, use={})
    assert commands == [
        Open(S1, "10.0.0.1:1", 8),
        Allow("lane0", "120000:1000", True),
        Route("blog.test", "lane0", True),
    ]
    haproxy = Haproxy()
    for command in commands:
        haproxy.take(command)
    assert lanes.turn({}, {}, haproxy.actual(), memory, lanes=1, slots=2, use={})[0] == [
        Route("blog.test", COLD, False),
        Close(S1),
        Rescue("lane0"),
        Unroute("blog.test"),
    ]


def test_a_lane_with_a_request_in_it_is_nobody_elses() -> None:
    haproxy = Haproxy()
    memory = settle(haproxy, [site("blog")], Memory(), lanes_max=1)
    haproxy.in_lane["lane0"] = 1
    memory = settle(haproxy, [site("shop")], memory, lanes_max=1)
    assert haproxy.routes == {}
    haproxy.in_lane["lane0"] = 0
    settle(haproxy, [site("shop")], memory, lanes_max=1)
    assert haproxy.routes == {"shop.test": "lane0"}


def test_a_slot_gets_its_next_container_when_the_last_request_of_the_one_before_has_ended() -> None:
    haproxy = Haproxy()
    first, second, third = (container("blog", number) for number in (1, 2, 3))
    memory = settle(haproxy, [site("blog", containers=(first,))], Memory())
    haproxy.slots[S1] = replace(haproxy.slots[S1], in_flight=3)
    memory = settle(haproxy, [site("blog", containers=(second, third))], memory)
    assert (haproxy.slots[S1].is_open, haproxy.slots[S1].address) == (False, first.address)
    assert haproxy.slots[S2].address == second.address
    haproxy.slots[S1] = replace(haproxy.slots[S1], in_flight=0)
    settle(haproxy, [site("blog", containers=(second, third))], memory)
    assert (haproxy.slots[S1].is_open, haproxy.slots[S1].address) == (True, third.address)


def test_an_app_with_more_containers_than_slots_stays_with_the_proxies() -> None:
    haproxy = Haproxy()
    settle(haproxy, [site("blog", containers=tuple(container("blog", number) for number in (1, 2, 3)))], Memory())
    assert haproxy.routes == {}


def test_names_of_others_below_a_wildcard_come_before_it_and_go_after_it() -> None:
    below = {"*.test": ["cold.test", "*.deep.test"]}
    wild = site("wild", "*.test")
    commands, memory = lanes.turn({"wild": wild}, below, Actual(), Memory(), lanes=1, slots=2, use={})
    assert [command for command in commands if isinstance(command, Route)] == [
        Route("cold.test", COLD, True),
        Route("*.deep.test", COLD, True),
        Route("*.test", "lane0", True),
    ]
    haproxy = Haproxy()
    for command in commands:
        haproxy.take(command)
    commands, _ = lanes.turn({}, {}, haproxy.actual(), memory, lanes=1, slots=2, use={})
    assert commands[0] == Route("*.test", COLD, False)
    assert {Unroute("cold.test"), Unroute("*.deep.test")} < set(commands)


def test_a_wildcard_over_too_many_names_gets_no_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "SHADOWS_MAX", 1)
    haproxy = Haproxy()
    settle(haproxy, [site("wild", "*.test", "own.example")], Memory(), below={"*.test": ["a.test", "b.test"]})
    assert haproxy.routes == {"own.example": "lane0"}


def test_the_least_used_app_gives_up_its_lane_and_gets_the_next_free_one() -> None:
    haproxy = Haproxy()
    both = [site("blog"), site("shop")]
    memory = settle(haproxy, both, Memory())
    memory = settle(haproxy, [*both, site("wiki")], memory, use={"blog": 5.0, "shop": 1.0})
    assert set(haproxy.routes) == {"blog.test", "wiki.test"}
    memory = settle(haproxy, [*both, site("wiki")], memory, use={"blog": 5.0, "wiki": 0.0})
    assert set(haproxy.routes) == {"blog.test", "wiki.test"}  # nobody is pushed out in turn
    settle(haproxy, both, memory)
    assert set(haproxy.routes) == {"blog.test", "shop.test"}


def test_after_its_restart_an_empty_haproxy_gets_all_again() -> None:
    haproxy = Haproxy()
    memory = settle(haproxy, [site("blog")], Memory())
    fresh = Haproxy()
    settle(fresh, [site("blog")], memory)
    assert (fresh.routes, fresh.slots) == (haproxy.routes, haproxy.slots)


def test_a_new_controller_finds_everything_as_it_should_be() -> None:
    haproxy = Haproxy()
    settle(haproxy, [site("blog")], Memory())
    memory = lanes.recall(haproxy.actual(), {"blog.test": "blog"}, {"10.0.0.1:1": ("blog", "blog/1.1")})
    assert lanes.turn({"blog": site("blog")}, {}, haproxy.actual(), memory, lanes=2, slots=2, use={})[0] == []


def test_an_address_that_has_become_another_sites_is_closed_by_a_new_controller() -> None:
    haproxy = Haproxy()
    settle(haproxy, [site("blog")], Memory())
    memory = lanes.recall(haproxy.actual(), {"blog.test": "blog"}, {"10.0.0.1:1": ("shop", "shop/1.1")})
    commands, _ = lanes.turn({"blog": site("blog")}, {}, haproxy.actual(), memory, lanes=1, slots=2, use={})
    assert commands == [
        Route("blog.test", COLD, False),
        Close(S1),
        Rescue("lane0"),
        Unroute("blog.test"),
    ]


def test_names_alone_do_not_make_a_lane_a_new_controllers() -> None:
    """It was killed between two commands: who waits in the lane asked for the site that the name had before."""
    actual = Actual({"blog.test": "lane0"}, slots={S1: Slot("10.0.0.9:1", 8)}, in_lane={"lane0": 1})
    assert lanes.recall(actual, {"blog.test": "shop"}, {}) == Memory()


def test_cookies_count_for_the_life_that_has_the_slot_and_only_where_they_are_asked_for() -> None:
    haproxy = Haproxy()
    asks = replace(site("blog"), sticky=True)
    memory = settle(haproxy, [asks], Memory())
    assert haproxy.tokens == {"lane0/s1": lanes.token_of("blog/1.1")}
    second = container("blog", 2)
    memory = settle(haproxy, [replace(asks, containers=(second,))], memory)
    assert haproxy.tokens == {"lane0/s2": lanes.token_of("blog/2.1")}
    memory = settle(haproxy, [site("blog", containers=(second,))], memory)
    assert haproxy.tokens == {}


def test_a_slot_is_weighed_without_being_closed() -> None:
    haproxy = Haproxy()
    light = replace(container("blog"), weight=10)
    memory = settle(haproxy, [site("blog", containers=(light,))], Memory())
    assert haproxy.slots[S1].weight == 10
    heavier = {"blog": site("blog", containers=(replace(light, weight=40),))}
    assert lanes.turn(heavier, {}, haproxy.actual(), memory, lanes=2, slots=2, use={})[0] == [Weigh(S1, 40)]


def test_what_a_command_touched_may_be_in_use() -> None:
    actual = Actual({"a.test": "lane0", "b.test": "lane1"}, slots={S1: Slot("10.0.0.1:1", 8, is_open=True)})
    known = lanes.after(actual, [Route("a.test", COLD, False), Unroute("b.test"), Close(S1)])
    assert known.in_lane == {"lane0": lanes.UNKNOWN, "lane1": lanes.UNKNOWN}
    assert known.slots[S1].in_flight == lanes.UNKNOWN
    assert lanes.unsettled(known) == {"lane0", "lane1"}


def test_what_is_known_without_looking_counts_as_in_use() -> None:
    haproxy = Haproxy()
    memory = settle(haproxy, [site("blog")], Memory(), lanes_max=1)
    known = haproxy.actual()
    for _ in range(3):
        commands, memory = lanes.turn({"shop": site("shop")}, {}, known, memory, lanes=1, slots=2, use={})
        known = lanes.after(known, commands)
        for command in commands:
            haproxy.take(command)
    assert lanes.unsettled(known) == {"lane0"}
    assert haproxy.routes == {} and not haproxy.slots[S1].is_open  # who left it a moment ago may still be in it
    known = lanes.read_again(known, Actual(slots=haproxy.slots, in_lane={"lane0": 0}), {"lane0"})
    commands, _ = lanes.turn({"shop": site("shop")}, {}, known, memory, lanes=1, slots=2, use={})
    assert commands[-1] == Route("shop.test", "lane0", True)


# ---- whatever happens between two commands

APPS = ("a", "b", "c", "d")
DOMAINS = ("x.test", "*.x.test", "y.x.test", "*.y.x.test", "z.y.x.test", "*.test", "q.test", "*.q.test")
HOSTS = ("x.test", "m.x.test", "y.x.test", "n.y.x.test", "z.y.x.test", "q.test", "r.q.test", "s.test", "t.s.test")


def nearest(table: dict[str, str], host: str) -> str | None:
    """As CMCache.app_for, and as the maps are looked up."""
    if host in table:
        return table[host]
    labels = host.split(".")
    above = ("*." + ".".join(labels[number:]) for number in range(1, len(labels)))
    return next((table[name] for name in above if name in table), None)


@dataclass
class World:
    """HAProxy with requests in it."""

    data: st.DataObject
    haproxy: Haproxy = field(default_factory=Haproxy)
    domains: dict[str, str] = field(default_factory=dict)
    before: list[dict[str, str]] = field(
        default_factory=list
    )  # what it was since the last turn that was not interrupted
    containers: dict[str, list[Container]] = field(default_factory=lambda: {app: [] for app in APPS})
    app_at: dict[str, str] = field(default_factory=dict)  # address -> app
    inside: list[tuple[str, str, SlotId | None]] = field(default_factory=list)  # app, lane, slot
    owner: dict[str, str] = field(default_factory=dict)  # lane -> app whose slot was opened there last
    made: int = 0

    def take(self, command: Command) -> None:
        self.haproxy.take(command)
        if isinstance(command, Open):
            self.owner[command.slot.lane] = self.app_at[command.address]

    def change(self) -> None:
        self.before.append(dict(self.domains))
        for domain in self.data.draw(st.lists(st.sampled_from(DOMAINS), max_size=3)):
            app = self.data.draw(st.sampled_from((*APPS, None)))
            if app is None:
                self.domains.pop(domain, None)
            else:
                self.domains[domain] = app
        for app in self.data.draw(st.lists(st.sampled_from(APPS), max_size=2)):
            if self.containers[app] and self.data.draw(st.booleans()):
                self.containers[app].pop(0)
            else:
                self.made += 1
                self.containers[app].append(Container(f"{app}/{self.made}.1", f"10.0.0.1:{self.made}", 8))
                self.app_at[f"10.0.0.1:{self.made}"] = app

    def recall(self) -> Memory:
        lives = {each.address: (app, each.life) for app, held in self.containers.items() for each in held}
        return lanes.recall(self.haproxy.actual(), self.domains, lives)

    def sites(self) -> dict[str, Site]:
        return {
            app: Site(app, tuple(d for d, owner in self.domains.items() if owner == app), tuple(held), 1000, 10)
            for app, held in self.containers.items()
        }

    def below(self) -> dict[str, list[str]]:
        return {name: lanes.under(name, self.domains) for name in self.domains if name.startswith("*.")}

    def check(self) -> None:
        """Every name leads to a slot of its own site, and nobody waits where another site's slot opens."""
        for host in HOSTS:
            lane = nearest(self.haproxy.routes, host)
            apps = {nearest(table, host) for table in (self.domains, *self.before)}
            if lane not in (None, COLD):
                found = {
                    self.app_at[s.address] for id, s in self.haproxy.slots.items() if id.lane == lane and s.is_open
                }
                assert found <= apps, (host, lane, found, apps)
        for app, lane, slot in self.inside:
            for id, state in self.haproxy.slots.items():
                if id.lane == lane and state.is_open and slot in (None, id):
                    assert self.app_at[state.address] == app

    def traffic(self) -> None:
        """Some requests come, some get a slot, some end."""
        for host in self.data.draw(st.lists(st.sampled_from(HOSTS), max_size=2)):
            lane = nearest(self.haproxy.routes, host)
            if lane not in (None, COLD):
                open_slots = [id for id, s in self.haproxy.slots.items() if id.lane == lane and s.is_open]
                slot = self.data.draw(st.sampled_from([None, *open_slots]))
                self.inside.append((self.owner[lane or ""], lane or "", slot))
        if self.inside and self.data.draw(st.booleans()):
            self.inside.pop(0)
        self.count()

    def count(self) -> None:
        for id, slot in self.haproxy.slots.items():
            self.haproxy.slots[id] = replace(slot, in_flight=sum(s == id for _, _, s in self.inside))
        self.haproxy.in_lane = {lane: sum(at == lane for _, at, _ in self.inside) for _, lane, _ in self.inside}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_interleaving_of_commands_changes_and_requests_leads_to_a_wrong_site(data: st.DataObject) -> None:
    world, memory = World(data), Memory()
    known = world.haproxy.actual()
    for _ in range(data.draw(st.integers(1, 8))):
        world.change()
        if data.draw(st.integers(0, 5)) == 0:  # kill -9 of the controller
            memory = world.recall()
            known = world.haproxy.actual()
        elif data.draw(st.booleans()):
            known = lanes.read_again(known, world.haproxy.actual(), {"lane0", "lane1"})
        use = {app: data.draw(st.floats(0, 9)) for app in APPS}
        commands, memory = lanes.turn(world.sites(), world.below(), known, memory, lanes=2, slots=2, use=use)
        killed_after = data.draw(st.sampled_from((None, 0, 1, 2, 3)))
        for command in commands[:killed_after]:
            world.take(command)
            world.check()
            world.traffic()
        if killed_after is None:
            world.before.clear()
            known = lanes.after(known, commands)
        else:
            memory = world.recall()
            known = world.haproxy.actual()
        world.check()
        world.traffic()
