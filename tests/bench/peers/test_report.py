import io
import json

from rich.console import Console

from bench.peers.isolation import Isolation
from bench.peers.loading import Load
from bench.peers.peer import Memory
from bench.peers.place import Page
from bench.peers.report import OURS, Measured, report


def measured(name: str, first_ms: list[float], per_s: float) -> Measured:
    load = Load(per_s, 1.0, 9.0, 1000)
    return Measured(
        name, "what it is", dict.fromkeys(Page, first_ms), dict.fromkeys(Page, load), Memory(10, 11, 5), Memory(20, 21, 55), 50,
        Isolation("own", ("pid",), True, True, ""),
    )  # fmt: skip


FOUND = [measured(OURS, [20.0, 30.0, 40.0], 500), measured("php-fpm, x y", [3.0, 3.0, 6.0], 5000)]


def test_medians_are_compared() -> None:
    assert report(FOUND, {}, 50).ratios == {"first_php_fpm_x_y_over_ours": 0.1, "warm_ours_over_php_fpm_x_y": 0.1}


def test_without_ours_nothing_is_compared() -> None:
    assert report(FOUND[1:], {}, 50).ratios == {}


def test_json_has_everything_and_the_common_form() -> None:
    told = json.loads(report(FOUND, {"podman": "no"}, 50).json())
    assert told["left_out"] == {"podman": "no"} and told["name"] == "peers"
    assert told["peers"][1]["first"]["dynamic"] == [3.0, 3.0, 6.0]
    assert told["peers"][0]["isolation"]["namespaces"] == ["pid"]
    dynamic = next(each for each in told["results"] if each["what"] == f"{OURS}: first request, dynamic")
    assert (dynamic["p50"], dynamic["p99"], dynamic["n"]) == (30.0, 40.0, 3)


def test_tables_name_everybody_and_who_is_left_out() -> None:
    text = io.StringIO()
    report(FOUND, {"podman": "[not] installed"}, 50).show(Console(file=text, width=160))
    assert "php-fpm, x y" in text.getvalue() and "podman is left out: [not] installed" in text.getvalue()
