"""What the programs of their own do beside what both ways share."""

import asyncio

from addons.lean import Lean
from tests.addons.conftest import World
from tests.fakes import sites


async def test_a_client_that_comes_before_mitmproxy_says_that_it_runs(tmp_path):
    world = World(tmp_path)
    await world.agent.start()
    world.lean = Lean(world.proxy)
    assert await world.lean.server.setup_servers()
    connection = await world.connect()
    early = asyncio.get_running_loop().create_task(connection.ask("blog.test"), name="early")
    async with asyncio.timeout(5):
        while not world.proxy._running:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await world.proxy.loaded.wait()
    assert (await early).status == 404
    world.tasks.start(world.lean.serve(), name="mitmproxy")
    await world.site("blog", sites.hello())
    assert (await connection.ask("blog.test")).status == 200
    connection.close()
    await world.close()
