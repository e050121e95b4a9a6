"""Hostile requests at the UserLB and at the UserProxy: what comes back, and what a site gets to see of them."""

import asyncio

import pytest

from dispatcher.userlb.lanes import Allow, Open, Route, SlotId
from tests.abuse import table
from tests.abuse.recorder import Recorder, ambiguities, answers
from tests.abuse.shapes import GROUPS, Shape
from tests.addons.conftest import World
from tests.addons.conftest import world as world
from tests.dispatcher.userlb.conftest import front as front
from tests.fakes.ports import free_port

SHAPES = [shape for group in GROUPS.values() for shape in group]
AT_ONCE = 20
FORGED = b"forged"


async def all_answers(port: int, shapes: list[Shape]) -> dict[str, str]:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, shape: Shape) -> str:
        async with places:
            return await answers(port, shape.sent.replace(b"%s", f"n{number}.".encode()))

    got = await asyncio.gather(*(one(number, shape) for number, shape in enumerate(shapes)))
    return {shape.name: answer for shape, answer in zip(shapes, got, strict=True)}


def check_what_the_site_got(recorder: Recorder) -> None:
    for raw in recorder.connections:
        request_line = raw.split(b"\r\n")[0]
        assert not request_line.startswith(b"GET /smuggled"), bytes(raw)
        assert FORGED not in raw.partition(b"\r\n\r\n")[0], bytes(raw)
        if b"HTTP/1." in request_line:
            found = ambiguities(bytes(raw))
            assert found in ([], ["no end"]), (found, bytes(raw))


BEHIND = free_port()


@pytest.mark.parametrize("front", [{"proxies": (f"127.0.0.1:{BEHIND}",)}], indirect=True)
async def test_at_the_userlb(front, tmp_path) -> None:
    """The site has a lane, and a UserProxy is behind for what goes there."""
    world, recorder = World(tmp_path, BEHIND, userlbs=("127.0.0.0/8",)), Recorder()
    await world.start()
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    lane = [Open(SlotId("lane0", 0), address, 50), Allow("lane0", "9000:99", True), Route("blog.test", "lane0", True)]
    await front.runtime.do(lane)
    await world.site("blog", recorder.serve)
    try:
        assert await all_answers(front.port, SHAPES) == {shape.name: shape.userlb for shape in SHAPES}
        check_what_the_site_got(recorder)
        assert await answers(front.port, b"GET / HTTP/1.1\r\nHost: blog.test\r\n\r\n") == "200"
    finally:
        server.close()
        await world.close()


async def test_at_the_userproxy(world: World) -> None:
    recorder = Recorder()
    await world.site("blog", recorder.serve)
    assert await answers(world.port, b"GET / HTTP/1.1\r\nHost: blog.test\r\n\r\n") == "200"
    assert await all_answers(world.port, SHAPES) == {shape.name: shape.userproxy for shape in SHAPES}
    check_what_the_site_got(recorder)
    assert await answers(world.port, b"GET / HTTP/1.1\r\nHost: blog.test\r\n\r\n") == "200"


def test_the_tables_for_people_are_these() -> None:
    assert table.document(table.FILE.read_text()) == table.FILE.read_text()
