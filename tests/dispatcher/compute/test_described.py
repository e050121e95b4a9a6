"""Rows of lives, as values."""

from types import SimpleNamespace

import pytest

from dispatcher.compute import described
from dispatcher.compute.life import Draining, Life
from dispatcher.domain import App, AppSpec, Cause, ContainerRow, Status

APP = App("blog", AppSpec(("php",)), cpu=0.5, memory_bytes=64 << 20, uid=200_000)


def life(**values: object) -> Life:
    return Life(APP, "2", 7, Cause.SCALE, "", 1000.0, 2000.0, 0.0, **values)  # type: ignore[arg-type]


def test_a_row_says_what_the_life_is() -> None:
    handle = SimpleNamespace(address="100.96.0.5", etc_image="etc1")
    row = described.row_of(life(status=Status.RUNNING, handle=handle), "here")
    assert row == ContainerRow(
        "here", Status.RUNNING, 7, "", "100.96.0.5:80", "50%", "64M", "etc1", 1000.0, 2000.0, "scale"
    )


def test_one_that_does_not_listen_yet_has_no_address_and_one_that_drains_says_why() -> None:
    row = described.row_of(life(status=Status.STARTING, draining=Draining("idle", None)), "here")
    assert (row.local_address, row.image, row.reason) == ("", "", "idle")


def test_at_rest_it_keeps_its_place_its_generation_and_its_reason() -> None:
    row = ContainerRow("here", Status.RUNNING, 7, "a", "b", "50%", "64M", "etc1", 1.0, 2.0, "it failed")
    assert described.resting(row) == ContainerRow("here", generation=7, reason="it failed")


@pytest.mark.parametrize(("app", "said"), [(APP, "cpu 50%, memory 64M"), (App("x", AppSpec(("y",))), "cpu , memory ")])
def test_limits_are_said_in_the_words_that_people_write(app: App, said: str) -> None:
    assert described.limits_of(app) == said
