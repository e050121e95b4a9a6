"""Which containers a UserProxy sees: its own host's by the agent, other hosts' by their rows."""

import msgspec
import pytest

from addons.routing import Backend
from addons.view import WholeView
from dispatcher.compute.link import AgentLink
from dispatcher.compute.protocol import Live
from dispatcher.domain import App, AppSpec, ComputeRow, ContainerRow, Policy, Status

APP = App("blog", AppSpec(command=("x",), policy=Policy(queue_max=7)))


class Rows:
    def __init__(self, containers, computes):
        self._containers, self._computes = containers, computes

    def containers(self, app):
        return self._containers

    def computes(self):
        return self._computes


def view(containers=None, computes=("here", "there"), live=(), *, short_cut=True, connects=1, clock=lambda: 0.0):
    link = AgentLink("/nowhere", "userproxy", in_flight=lambda life: 0, lives_in_use=dict)
    link.connects = connects
    for each in live:
        link.live.setdefault(each.app, {})[each.container] = each
    rows = {name: ContainerRow(*row) for name, row in (containers or {}).items()}
    known = {name: ComputeRow(f"10.0.0.{i}:8081", 1, 1) for i, name in enumerate(computes)}
    return WholeView(link, Rows(rows, known), compute="here", short_cut=short_cut, clock=clock)


RUNS = Live("blog", "1", 3, Status.RUNNING, "100.96.0.5:80", 5)
HERE = Backend("blog", "1", "here", ("100.96.0.5", 80), "blog/1.3", 5, False)
THERE = Backend("blog", "2", "there", ("10.0.0.1", 8081), "", 7, True)


@pytest.mark.parametrize(
    ("containers", "options", "running"),
    [
        pytest.param({"1": ("here", Status.RUNNING)}, {}, [], id="a stale row of our own host"),
        pytest.param({"1": ("here",)}, {"live": [RUNS]}, [HERE], id="the agent knows better than the row"),
        pytest.param({}, {"live": [RUNS]}, [HERE], id="no row yet"),
        pytest.param({"2": ("there", Status.RUNNING)}, {}, [THERE], id="another host"),
        pytest.param({"2": ("there", Status.STARTING)}, {}, [], id="starting elsewhere"),
        pytest.param({"2": ("gone", Status.RUNNING)}, {}, [], id="a host whose lease is over"),
        pytest.param({"1": ("here",), "2": ("there", Status.RUNNING)}, {"live": [RUNS]}, [HERE, THERE], id="both"),
    ],
)
def test_running(containers, options, running):
    assert view(containers, **options).running(APP) == running


def test_draining_and_starting_ones_get_nothing():
    for status in (Status.DRAINING, Status.FROZEN, Status.STARTING, Status.FAILED):
        assert view(live=[msgspec.structs.replace(RUNS, status=status)]).running(APP) == []


@pytest.mark.parametrize(
    ("containers", "options", "chosen"),
    [
        pytest.param({"1": ("here",)}, {}, "1", id="here"),
        pytest.param({"1": ("here", Status.FAILED), "2": ("there",)}, {}, THERE, id="the failed one last"),
        pytest.param({"1": ("gone",)}, {}, None, id="its host is gone"),
        pytest.param({}, {"computes": ()}, "1", id="no row, no Compute but this one"),
        pytest.param({}, {"computes": (), "connects": 0}, None, id="nobody"),
        pytest.param(
            {}, {"computes": ("there",), "connects": 0},
            Backend("blog", "1", "there", ("10.0.0.0", 8081), "", 7, True), id="no row, another Compute",
        ),
        pytest.param(
            {"1": ("here",)}, {"short_cut": False},
            Backend("blog", "1", "here", ("10.0.0.0", 8081), "", 7, True), id="no short cut",
        ),
    ],
)  # fmt: skip
def test_to_wake(containers, options, chosen):
    assert view(containers, **options).to_wake(APP, "") == chosen


def test_a_suspect_gets_nothing_for_a_while():
    now = [100.0]
    seen = view({"2": ("there", Status.RUNNING)}, live=[RUNS], clock=lambda: now[0])
    seen.suspect(HERE)
    assert seen.running(APP) == [THERE]
    seen.suspect(THERE)
    assert seen.running(APP) == []
    now[0] += 2
    assert seen.running(APP) == [HERE, THERE]
