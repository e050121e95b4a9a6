import pytest

from dispatcher.compute.protocol import Live
from dispatcher.domain import App, AppSpec, ContainerRow, Policy, Status, Switch
from dispatcher.userlb.lanes import Container, Site
from dispatcher.userlb.sites import Names, lives_by_address, site_of, weights_of

RUNS = Live("blog", "1", 1, Status.RUNNING, "10.0.0.1:80", 8)
HERE = {"1": ContainerRow("here")}


def app(switch: Switch = Switch.ON, **policy: object) -> App:
    return App("blog", AppSpec(command=("x",), policy=Policy(**policy)), switch=switch)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "of, lives, rows",
    [
        (app(Switch.MAINTENANCE), [RUNS], HERE),
        (app(Switch.OFF), [RUNS], HERE),
        (app(queue_max=0), [RUNS], HERE),
        (app(), [RUNS], HERE | {"2": ContainerRow("there")}),
        (app(), [Live("blog", "1", 1, Status.DRAINING, "10.0.0.1:80", 8)], HERE),
        (app(), [Live("blog", "1", 1, Status.FROZEN, "10.0.0.1:80", 8)], HERE),
        (app(), [], HERE),
    ],
    ids=["maintenance", "off", "nobody-may-wait", "elsewhere-too", "draining", "frozen", "asleep"],
)
def test_who_gets_no_lane(of, lives, rows) -> None:
    assert site_of(of, lives, rows, ["blog.test"], compute="here") is None


@pytest.mark.parametrize("concurrency, wanted", [(None, 8), (3, 3)])
def test_who_gets_one(concurrency, wanted) -> None:
    drains = Live("blog", "2", 1, Status.DRAINING, "10.0.0.2:80", 8)
    found = site_of(
        app(concurrency=concurrency, response_timeout_s=2.5, queue_max=4),
        [drains, RUNS],
        {},
        ["b", "a"],
        compute="here",
    )
    assert found == Site("blog", ("a", "b"), (Container("blog/1.1", "10.0.0.1:80", wanted),), 2500, 4)


@pytest.mark.parametrize(
    "ages, weights",
    [
        ({"a": 0.0}, {"a": 100}),
        ({"a": 0.0, "b": 3.0}, {"a": 100, "b": 100}),
        ({"a": 0.0, "b": 300.0}, {"a": 10, "b": 100}),
        ({"a": 4.1, "b": 10.0}, {"a": 40, "b": 100}),
        ({"a": 9.9, "b": 11.0}, {"a": 80, "b": 100}),
    ],
)
def test_a_fresh_container_beside_older_ones_gets_little_at_first(ages, weights) -> None:
    assert weights_of(ages) == weights


def test_names_follow_the_table() -> None:
    table = {"a.test": "blog", "*.test": "wild", "b.test": "wild", "c.other": "shop"}
    names = Names(lambda: table)
    wild = Site("wild", ("*.test", "b.test"), (), 0, 0)
    assert (names.of("blog"), names.of("nobody")) == (["a.test"], [])
    assert names.below([wild]) == {"*.test": ["a.test"]}

    table["d.test"] = "shop"
    names.changed("d.test")
    table["a.test"] = "shop"
    names.changed("a.test")
    assert (names.of("blog"), names.of("shop")) == ([], ["c.other", "d.test", "a.test"])
    assert names.below([wild]) == {"*.test": ["a.test", "d.test"]}

    del table["d.test"]
    names.changed("d.test")
    assert names.of("shop") == ["c.other", "a.test"]
    assert names.below([wild]) == {"*.test": ["a.test"]}
    assert names.below([]) == {}

    table["d.test"] = "shop"  # again, as before
    names.changed("d.test")
    assert sorted(names.of("shop")) == ["a.test", "c.other", "d.test"]


def test_an_address_tells_whose_it_is() -> None:
    assert lives_by_address({"blog": {"1": RUNS}}) == {"10.0.0.1:80": ("blog", "blog/1.1")}
