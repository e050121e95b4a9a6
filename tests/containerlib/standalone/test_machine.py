"""A launcher and a runtime of a runner's own."""

import asyncio
from pathlib import Path

import pytest

from containerlib.spec import ContainerSpec
from containerlib.standalone.machine import clean, events_name, listen_events, machine
from containerlib.standalone.places import hold, register
from tests.containerlib.conftest import Box

pytestmark = pytest.mark.system


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_it_makes_a_container_and_leaves_nothing(box: Box) -> None:
    with hold(box.settings, "web") as place:
        record = register(place, ContainerSpec("web", ("x",)), 1.0)
        async with machine(place, record) as runtime:
            blank = await runtime.make_blank(record.slot)
            assert blank.slot == record.slot
            assert runtime.has_launcher
            assert environment(blank.pid) == b""  # it becomes the container's PID 1
            # Not destroyed: the end of the machine takes it along.
            blank.wire.diag.close()
            blank.close()
        assert not any(directory.exists() for directory in blank.group.directories())
        place.remove()


async def test_what_is_half_made_is_cleared_away(box: Box) -> None:
    with hold(box.settings, "web") as place:
        record = register(place, ContainerSpec("web", ("x",)), 1.0)
        (place.directory / "launcher.sock").write_text("")  # nobody listens there
        (place.directory / "slots/2").mkdir(parents=True)
        await clean(place, record)
        assert not place.directory.exists()


async def test_events_where_there_are_none(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("containerlib.readiness.TRACEFS", Path("/no/such"))
    async with listen_events("fastcontainer-test") as events:
        assert not events.is_open
    await asyncio.sleep(0)


def test_each_has_a_name_of_its_own(box: Box) -> None:
    with hold(box.settings, "web") as place:
        record = register(place, ContainerSpec("web", ("x",)), 1.0)
        assert events_name(record) == f"fastcontainer-web-{record.network.partition('/')[0]}"
        place.remove()
