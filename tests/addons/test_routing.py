import random

import pytest

from addons import routing
from addons.routing import Asleep, Backend
from dispatcher.domain import App, AppSpec, Status, Switch
from dispatcher.problems import Code, Problem


def backend(container, *, remote=False):
    life = "" if remote else f"blog/{container}.1"
    return Backend("blog", container, "here", ("127.0.0.1", 80), life, 32, remote)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("a" * 300, None),
        ("a" * 1_000_000, None),
        ("", None),
        ("a b", None),
        ("a/b", None),
        ("user@blog.test", None),
        ("blog.test:port", None),
        ("blog.test:123456", None),
        ("[::1", None),
        ("bücher.test", None),
        ("BLOG.test", "blog.test"),
        ("blog.test.", "blog.test"),
        ("blog.test:8080", "blog.test"),
        ("blog.test.:8080", "blog.test"),
        ("[::1]:8080", "[::1]"),
        ("127.0.0.1", "127.0.0.1"),
        ("a_b.test", "a_b.test"),
    ],
)
def test_host_name(header, name):
    if name is None:
        with pytest.raises(ValueError, match="host name"):
            routing.host_name(header)
    else:
        assert routing.host_name(header) == name


def test_the_less_busy_of_two():
    rng = random.Random(1)
    one, two, three = backend("1"), backend("2"), backend("3", remote=True)
    assert routing.pick([], {}, rng) is None
    assert routing.pick([one], {one.key: 99}, rng) == one
    for _ in range(20):
        assert routing.pick([one, two], {one.key: 3, two.key: 2}, rng) == two
    picked = [routing.pick([one, two, three], {one.key: 5}, rng) for _ in range(300)]
    assert picked.count(one) == 0
    assert 75 < picked.count(two) < 225


@pytest.mark.parametrize(
    ("statuses", "chosen"),
    [
        ({"1": Status.REGISTERED, "2": Status.STARTING, "3": Status.REGISTERED}, "2"),
        ({"1": Status.REGISTERED, "2": Status.FROZEN, "3": Status.REGISTERED}, "2"),
        ({"1": Status.FAILED, "2": Status.DRAINING}, "2"),
        ({"1": Status.FAILED}, "1"),
        ({}, None),
    ],
)
def test_which_to_wake(statuses, chosen):
    asleep = [Asleep(container, "here", status) for container, status in statuses.items()]
    found = routing.to_wake("blog", asleep)
    assert (found.container if found else None) == chosen


def test_every_proxy_wakes_the_same_and_apps_spread():
    rows = [Asleep(str(i), "here", Status.REGISTERED) for i in range(5)]
    chosen = {app: routing.to_wake(app, rows).container for app in map(str, range(200))}
    assert chosen == {app: routing.to_wake(app, rows[::-1]).container for app in chosen}
    assert len(set(chosen.values())) == 5
    # One that fails moves only the apps that would have gone there.
    failed = [row._replace(status=Status.FAILED) if row.container == "3" else row for row in rows]
    assert all(routing.to_wake(app, failed).container == was for app, was in chosen.items() if was != "3")
    assert routing.home("blog", ["a", "b", "c"]) == routing.home("blog", ["c", "a", "b"])
    assert routing.home("blog", []) is None


@pytest.mark.parametrize(("switch", "code"), [(Switch.OFF, Code.SWITCHED_OFF), (Switch.MAINTENANCE, Code.MAINTENANCE)])
def test_switch(switch, code):
    with pytest.raises(Problem) as caught:
        routing.check_switch(App("blog", AppSpec(command=("x",)), switch=switch))
    assert caught.value.code is code
    routing.check_switch(App("blog", AppSpec(command=("x",))))
