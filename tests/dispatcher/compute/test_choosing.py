"""What is remembered of starts. What follows from it is in test_strategy.py."""

from types import SimpleNamespace
from typing import Any

import pytest

from containerlib.handle import USUAL_KIND, Kind
from dispatcher.compute import choosing
from dispatcher.compute.choosing import Choosing
from dispatcher.compute.strategy import Host
from dispatcher.domain import App, AppSpec, Policy, Start

APP = App("blog", AppSpec(("x",), policy=Policy(start=Start.AUTO)), uid=300_000)


def life(app: App = APP, *, kind: Kind = USUAL_KIND, **phases: float) -> Any:
    return SimpleNamespace(app=app, handle=SimpleNamespace(kind=kind), phases=phases)


def frozen(name: str, kept_bytes: int, *, is_frozen: bool = True, draining: object = None) -> Any:
    app = App(name, APP.spec)
    return SimpleNamespace(app=app, is_frozen=is_frozen, kept_bytes=kept_bytes, draining=draining)


def test_a_slow_start_is_followed_by_one_for_an_image_and_that_by_one_from_it() -> None:
    chooser = Choosing()
    assert chooser.begin(APP).start is Start.COLD
    chooser.started(life(queue=10, listen=1990))
    assert chooser.begin(APP).why.startswith("a cold start takes 2.00 s")
    assert chooser.begin(APP).start is Start.RESTORED
    chooser.started(life(kind=Kind(dumpable=1), boot=9000))  # followed, and dumped: no measure of a cold one
    assert chooser.begin(APP).why.startswith("a cold start takes 2.00 s")
    chooser.started(life(kind=Kind(restores=lambda *_: None), restore=300, listen=20))
    assert chooser.begin(APP).why.startswith("one from its image takes 0.32 s")


def test_what_fails_is_not_tried_for_ever() -> None:
    chooser = Choosing()
    chooser.started(life(listen=2000))
    for _ in range(2):
        chooser.failed(life(), Start.RESTORED)
    assert chooser.begin(APP).start is Start.COLD
    chooser.forget("blog")
    assert chooser.begin(APP).why == "how long a cold start takes is not known yet"


@pytest.mark.parametrize("start", [Start.COLD, Start.RESTORED, Start.FROZEN])
def test_of_others_nothing_is_remembered(start: Start) -> None:
    chooser, app = Choosing(), App("other", AppSpec(("x",), policy=Policy(start=start)))
    chooser.started(life(app, listen=2000))
    chooser.failed(life(app), Start.FROZEN)
    assert chooser._measured == {}


def test_the_memory_of_an_app_is_that_of_all_its_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "host", lambda: Host(1 << 30, 1))
    lives = [
        frozen("a", 2),
        frozen("b", 3),
        frozen("a", 2),
        frozen("c", 9, is_frozen=False),
        frozen("d", 9, draining=1),
    ]
    assert choosing.to_stop(lives) == "a"
    assert choosing.to_stop([]) is None
