"""The UserProxy through real sockets."""

import asyncio

from tests.addons.conftest import World
from tests.fakes import sites


async def test_a_request_for_a_sleeping_app_is_held_and_answered(world):
    site = await world.site("blog", sites.hello(), start_s=0.05)
    response = await world.ask("blog.test")
    assert (response.status, response.body) == (200, b"hello")
    assert site.starts == 1
    assert len(world.agent.ensures) == 1
    await world.agent.until(lambda: world.agent.counts == {"blog/1.1": 0})


async def test_200_first_requests_are_one_start(world):
    site = await world.site("blog", sites.hello(), start_s=0.1, concurrency=5, backlog=5)
    responses = await asyncio.gather(*(world.ask("blog.test", f"/{i}") for i in range(200)))
    assert [r.status for r in responses] == [200] * 200
    assert site.starts == 1
    assert len(world.agent.ensures) == 1


async def test_what_a_userlb_wrote_of_the_client_stays_as_it_is(tmp_path):
    world = World(tmp_path, userlbs=("127.0.0.0/8",))
    await world.start()
    try:
        await world.site("blog", sites.echo_head)
        told = {"x_forwarded_for": "1.2.3.4, 5.6.7.8", "x_forwarded_proto": "https", "forwarded": "for=5.6.7.8"}
        lines = (await world.ask("blog.test", **told)).body.decode().lower().split("\r\n")
        assert [line for line in lines if "forwarded" in line] == [
            "x-forwarded-for: 1.2.3.4, 5.6.7.8",
            "x-forwarded-proto: https",
            "forwarded: for=5.6.7.8",
        ]
    finally:
        await world.close()
