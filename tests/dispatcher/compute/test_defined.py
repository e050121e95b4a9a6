"""What an app comes to by its definition."""

from typing import Any

import pytest

from containerlib import spec
from containerlib.hooks import Hook, OnFailure, Phase
from containerlib.spec import ContainerSpec
from dispatcher.compute.defined import applied, container_spec, needs_new_life, not_for_apps
from dispatcher.domain import App, AppSpec, Mount, Policy

DEFINITION = ContainerSpec(
    name="php",
    command=("php",),
    env={"A": "1", "B": "1"},
    workdir="/srv",
    mounts=(spec.Mount("/a", "/srv", True), spec.Tmpfs("/cache")),
    cgroup=spec.Cgroup(0.5, 64 << 20, 33),
    network=spec.NetworkAccess(outbound=False, host_services=(3306,), bandwidth_bps=10_000_000),
    readiness=spec.Readiness(8000, "/health", 7.0),
    lifespan=spec.Lifespan(3600.0),
    init=False,
)


def app(**values: Any) -> App:
    return App("blog", AppSpec(definition="php", **values))


def test_what_the_app_leaves_at_its_default_is_the_definitions() -> None:
    found = applied(app(), DEFINITION)
    assert found.spec == AppSpec(
        ("php",), 8000, (Mount("/a", "/srv", True),), {"A": "1", "B": "1"}, "/srv", 33, False, (3306,), 10_000_000, init=False,
        definition="php", policy=Policy(lifespan_s=3600.0, start_timeout_s=7.0, health_path="/health"),
    )  # fmt: skip
    assert (found.cpu, found.memory_bytes) == (0.5, 64 << 20)


@pytest.mark.parametrize(
    "values, name, expected",
    [
        ({"command": ("x",)}, "command", ("x",)),
        ({"port": 81}, "port", 81),
        ({"env": {"B": "2"}}, "env", {"A": "1", "B": "2"}),
        ({"mounts": (Mount("/b", "/srv"),)}, "mounts", (Mount("/b", "/srv"),)),
        ({"mounts": (Mount("/b", "/x"),)}, "mounts", (Mount("/a", "/srv", True), Mount("/b", "/x"))),
        ({"workdir": "/x"}, "workdir", "/x"),
        ({"pids": 9}, "pids", 9),
        ({"image": "box"}, "image", "box"),
        (
            {"policy": Policy(lifespan_s=5.0)},
            "policy",
            Policy(lifespan_s=5.0, start_timeout_s=7.0, health_path="/health"),
        ),
    ],
)
def test_a_key_of_the_app_counts_first(values: dict[str, Any], name: str, expected: object) -> None:
    assert getattr(applied(app(**values), DEFINITION).spec, name) == expected


def test_it_is_started_as_both_say() -> None:
    made = container_spec(applied(app(env={"B": "2"}), DEFINITION), DEFINITION)
    assert (made.name, made.command, dict(made.env)) == ("blog", ("php",), {"A": "1", "B": "2"})
    assert made.mounts == DEFINITION.mounts and made.cgroup == DEFINITION.cgroup
    assert container_spec(App("blog", AppSpec(("x",), image="box")), None).root == spec.Image("box")


def test_what_only_a_container_by_itself_can_have() -> None:
    assert not_for_apps(DEFINITION) == []
    own = ContainerSpec(
        "x", ("x",), id_base=1 << 20, root=spec.Image("box@1"), network=spec.NetworkAccess("10.0.0.1"), log=spec.Log("/a")
    )  # fmt: skip
    assert not_for_apps(own) == ["id_base", "network.address", "log", "a version of an image"]


def hook(_container: object) -> None: ...


def changed(**values: Any) -> ContainerSpec:
    fields = {name: getattr(DEFINITION, name) for name in DEFINITION.__slots__}
    return ContainerSpec(**fields | values)


@pytest.mark.parametrize(
    "values, expected",
    [
        ({}, False),
        ({"hooks": (Hook(function=hook, phase=Phase.READY, on_failure=OnFailure.REPORT),)}, False),
        ({"metadata": {"team": "x"}}, False),
        ({"env": {}}, False),  # seen in the app's own spec
        ({"rlimits": (spec.Rlimit("nofile", 9, 9),)}, True),
        ({"hidden": spec.Hidden(("/x",))}, True),
        ({"mounts": (spec.Mount("/a", "/srv", True),)}, True),
        ({"user": spec.User(7)}, True),
        ({"cgroup": spec.Cgroup(0.5, 64 << 20, 33, (spec.Io("8:0", 1),))}, True),
        ({"cgroup": spec.Cgroup(0.7, 64 << 20, 33)}, False),  # changed while it runs
    ],
)
def test_what_needs_a_new_life(values: dict[str, Any], expected: bool) -> None:
    assert needs_new_life(DEFINITION, changed(**values)) is expected


def test_one_that_came_or_went_needs_a_new_life() -> None:
    assert needs_new_life(None, DEFINITION) and needs_new_life(DEFINITION, None) and not needs_new_life(None, None)
