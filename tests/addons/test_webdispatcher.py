"""The Web Dispatcher through real sockets."""

import asyncio
import time

import pytest

from addons import signing
from addons.signing import Route
from addons.webdispatcher import WebDispatcher
from dispatcher.domain import Status
from tests.addons.conftest import World
from tests.fakes import sites

KEY = b"0123456789abcdef0123456789abcdef"


class Dispatcher(World):
    def __init__(self, path):
        (path / "route.key").write_bytes(KEY)
        super().__init__(path)
        self.proxy = WebDispatcher(self.settings, open_store=lambda _: self.store)
        self.ids = iter(range(10**6))

    def route(self, container="1", *, app="blog", host=b"blog.test", method="GET", key=KEY, at=None, id=None):
        route = Route(app, container, id or f"r{next(self.ids)}", time.time() if at is None else at)
        return signing.sign(key, route, method=method, host=host)

    async def ask_routed(self, path="/", **options):
        return await self.ask("blog.test", path, X_FastContainer_Route=self.route(**options))


@pytest.fixture
async def world(tmp_path):
    world = Dispatcher(tmp_path)
    await world.start()
    yield world
    await world.close()


async def test_a_signed_request_wakes_its_container(world):
    site = await world.site("blog", sites.echo_head, start_s=0.02)
    responses = await asyncio.gather(*(world.ask_routed(container="3") for _ in range(20)))
    assert [r.status for r in responses] == [200] * 20
    assert (site.starts, world.agent.ensures[0].container) == (1, "3")
    assert b"fastcontainer" not in responses[0].body.lower()
    await world.agent.until(lambda: world.agent.counts == {"blog/3.1": 0})


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"key": b"x" * 32}, id="another key"),
        pytest.param({"at": 1.0}, id="old"),
        pytest.param({"host": b"shop.test"}, id="another host"),
        pytest.param({"method": "POST"}, id="another method"),
    ],
)
async def test_refused(world, options):
    site = await world.site("blog", sites.hello())
    response = await world.ask_routed(**options)
    assert response.status == 403
    assert b"key" not in response.body
    assert site.starts == 0


async def test_each_signature_is_good_once_and_one_header_is_enough(world):
    await world.site("blog", sites.hello())
    header = world.route()
    assert (await world.ask("blog.test", X_FastContainer_Route=header)).status == 200
    assert (await world.ask("blog.test", X_FastContainer_Route=header)).status == 403
    connection = await world.connect()
    route = world.route()
    connection.send(
        f"GET / HTTP/1.1\r\nHost: blog.test\r\nX-FastContainer-Route: {route}\r\nx-fastcontainer-route: {route}\r\n\r\n".encode()
    )
    assert (await connection.response()).status == 403
    assert (await world.ask("blog.test")).status == 403
    connection.close()


async def test_forwarded_headers_stay_as_the_userproxy_wrote_them(world):
    await world.site("blog", sites.echo_head)
    response = await world.ask(
        "blog.test", X_FastContainer_Route=world.route(), X_Forwarded_For="203.0.113.7", X_Forwarded_Proto="https"
    )
    assert response.body.lower().count(b"x-forwarded-for: 203.0.113.7\r\n") == 1
    assert b"127.0.0.1" not in response.body


async def test_an_app_that_cmcache_does_not_know_yet(world):
    world.agent.site("blog", sites.hello())
    assert (await world.ask_routed()).status == 200


async def test_another_container_of_this_host_takes_what_is_for_one_that_sleeps(world):
    site = await world.site("blog", sites.hello())
    await world.ask_routed(container="1")
    await world.ask_routed(container="2")
    assert site.starts == 1
    assert world.agent.live["blog", "1"].status is Status.RUNNING


async def test_the_log_carries_the_userproxys_request_id(world):
    await world.site("blog", sites.hello())
    await world.ask_routed(id="abc")
    world.proxy.access_log.flush()
    assert '"id":"abc"' in (world.path / "access/webdispatcher.log").read_text()
