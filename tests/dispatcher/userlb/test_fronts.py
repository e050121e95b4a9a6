import pytest

from dispatcher.domain import Front
from dispatcher.userlb import fronts

DOMAINS = {
    "a.test": "plain",
    "b.test": "busy",
    "*.w.test": "wild",
    "x.w.test": "plain",
    "*.y.w.test": "plain",
    "z.y.w.test": "busy",
    "w.test": "plain",
}
FRONTS = {"plain": Front(), "busy": Front(requests_per_s=0.5), "wild": Front(https=True, hsts_s=9, body_bytes_max=5)}


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        (Front(), "nothing"),
        (Front(maintenance_page="<p>"), "nothing"),
        (Front(https=True, hsts_s=60), "a:https:60:::::"),
        (Front(requests_per_s=20, client_requests_per_s=0.1), "a:::200:1:::"),
        (Front(in_flight_max=3, body_bytes_max=4, static={"/x": "/y"}), "a:::::3:4:static"),
    ],
)
def test_rules(front, expected) -> None:
    assert fronts.rules("a", front) == expected


def test_below_a_wildcard_with_rules_others_have_none() -> None:
    hosts, wildcards = fronts.maps(DOMAINS, FRONTS)
    assert hosts == {"b.test": "busy:::5::::", "z.y.w.test": "busy:::5::::", "x.w.test": "nothing"}
    assert wildcards == {"w.test": "wild:https:9::::5:", "y.w.test": "nothing", "*": "*"}


def test_one_map_becomes_another() -> None:
    actual, wanted = {"gone": "1", "same": "1", "other": "1"}, {"same": "1", "other": "2", "a.b": "3", "*": "*"}
    assert fronts.commands("F", actual, wanted) == [
        "add map F a.b 3",
        "set map F other 2",
        "add map F * *",
        "del map F gone",
    ]
    assert fronts.commands("F", wanted, wanted) == []


def test_static_paths() -> None:
    wanted = {"a": Front(static={"/robots.txt": "/s/robots.txt", "/css/": "/s/css/"})}
    assert fronts.static_paths(wanted) == ({"a/robots.txt": "file"}, {"a/css/": "tree"})
