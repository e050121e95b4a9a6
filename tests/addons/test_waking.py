"""Holding, waking, failing: what a request for a sleeping, starting, dying or broken app gets."""

import asyncio

import msgspec
import pytest

from addons import routing
from dispatcher.cmdb import keys
from dispatcher.domain import ComputeRow, ContainerRow, Policy, Status, WhileStarting
from dispatcher.problems import Code, Problem
from tests.fakes import sites
from tests.fakes.ports import free_port

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "User_Agent": "Mozilla/5.0"}


async def test_first_requests_to_20_apps_are_20_starts(world):
    apps = [await world.site(f"app{i}", sites.hello(), start_s=0.05) for i in range(20)]
    responses = await asyncio.gather(*(world.ask(f"app{i % 20}.test") for i in range(100)))
    assert [r.status for r in responses] == [200] * 100
    assert [site.starts for site in apps] == [1] * 20


async def test_a_single_threaded_server_with_keep_alive_is_not_blocked_by_idle_connections(world):
    one = asyncio.Lock()

    @sites.quiet
    async def serial(reader, writer):
        async with one:
            while True:
                await sites.read_head(reader)
                writer.write(sites.text(b"hello"))

    await world.site("blog", serial, concurrency=5)
    connections = [await world.connect() for _ in range(20)]
    for _ in range(3):
        responses = await asyncio.gather(*(connection.ask("blog.test") for connection in connections))
        assert [r.status for r in responses] == [200] * 20
    for connection in connections:
        connection.close()


async def test_a_container_is_given_no_more_than_its_concurrency(world):
    now = most = 0

    @sites.quiet
    async def counting(reader, writer):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await sites.read_head(reader)
        await asyncio.sleep(0.005)
        now -= 1
        writer.write(sites.text(b"hello"))

    await world.site("blog", counting, concurrency=3)
    responses = await asyncio.gather(*(world.ask("blog.test") for _ in range(40)))
    assert [r.status for r in responses] == [200] * 40
    assert most == 3
    assert world.proxy.holding._apps == {}


async def test_a_client_that_leaves_frees_its_place(world):
    site = await world.site("blog", sites.hello(), policy=Policy(queue_max=2))
    site.gate.clear()
    first = [await world.connect() for _ in range(2)]
    for connection in first:
        connection.send(b"GET / HTTP/1.1\r\nHost: blog.test\r\n\r\n")
    await held(world, 2)
    full = await world.ask("blog.test")
    assert (full.status, full.headers["retry-after"]) == (503, "5")
    first[0].close()
    await held(world, 1)
    last = asyncio.get_running_loop().create_task(world.ask("blog.test"))
    await held(world, 2)
    site.gate.set()
    assert (await last).status == 200
    assert (await first[1].response()).status == 200
    first[1].close()
    assert [line["outcome"] for line in world.log()] == ["queue_full", "client_left", "passed", "passed"]
    assert world.proxy.holding._apps == {}


async def held(world, count):
    async with asyncio.timeout(5):
        while world.proxy.holding.held != count:  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_the_deadline_of_a_start(world):
    site = await world.site("blog", sites.hello(), policy=Policy(start_timeout_s=0.1))
    site.gate.clear()
    response = await world.ask("blog.test")
    assert response.status == 503
    assert "retry-after" in response.headers
    site.gate.set()


async def test_the_deadline_of_a_response_leaves_the_connection_usable(world):
    @sites.quiet
    async def silent(reader, writer):
        if b"/slow" in await sites.read_head(reader):
            await reader.read()
        writer.write(sites.text(b"hello"))

    await world.site("blog", silent, policy=Policy(start_timeout_s=0.2, response_timeout_s=0.1))
    connection = await world.connect()
    response = await connection.ask("blog.test", "/slow", Accept="application/json")
    assert response.status == 504
    assert b'"deadline"' in response.body
    assert (await connection.ask("blog.test")).body == b"hello"
    connection.close()
    await world.agent.until(lambda: world.agent.counts == {"blog/1.1": 0})


async def test_an_upload_that_moves_outlives_the_deadline(world):
    policy = Policy(start_timeout_s=0.1, response_timeout_s=0.2)
    await world.site("blog", sites.echo_body, policy=policy)
    connection = await world.connect()
    connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\nContent-Length: 10000\r\n\r\n")
    for _ in range(10):
        await asyncio.sleep(0.08)
        connection.send(b"x" * 1000)
    assert (await connection.response()).body == b"x" * 10000
    connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\nContent-Length: 10\r\n\r\nx")
    assert (await connection.response()).status == 504
    connection.close()


async def test_an_upload_that_trickles_does_not(world):
    await world.site("blog", sites.echo_body, policy=Policy(start_timeout_s=0.1, response_timeout_s=0.2))
    connection = await world.connect()
    connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\nContent-Length: 100\r\n\r\n")
    answered = asyncio.get_running_loop().create_task(connection.response())
    async with asyncio.timeout(2):
        while not answered.done():
            connection.send(b"x")
            await asyncio.sleep(0.05)
    assert (await answered).status == 504
    connection.close()


async def test_an_answer_before_the_upload_is_complete(world):
    @sites.quiet
    async def too_large(reader, writer):
        await sites.read_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")

    await world.site("blog", too_large)
    connection = await world.connect()
    for _ in range(2):
        connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\nContent-Length: 10\r\n\r\nx")
        response = await connection.response()
        assert (response.status, response.body) == (413, b"no")
        connection.send(b"x" * 9)
    assert (await connection.ask("blog.test")).status == 413
    connection.close()
    await world.agent.until(lambda: world.agent.counts == {"blog/1.1": 0})


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (Problem(Code.START_FAILED, "php: not found in /srv/secret", hint="install it"), 503),
        (Problem(Code.BACKING_OFF, "crashed", retry_after_s=7.2), 503),
    ],
)
async def test_an_app_that_cannot_start_fails_fast(world, problem, status):
    await world.site("blog", sites.hello(), refuse=problem)
    response = await world.ask("blog.test", **BROWSER)
    assert response.status == status
    assert b"secret" not in response.raw
    assert b"Cannot start" in response.body
    if problem.retry_after_s:
        assert response.headers["retry-after"] == "8"


async def test_switch(world):
    site = await world.site("blog", sites.hello())
    for word, title in ((b"off", b"Switched off"), (b"maintenance", b"Back soon")):
        await world.put({keys.word_key("blog", "switch"): word})
        response = await world.ask("blog.test", **BROWSER)
        assert response.status == 503
        assert title in response.body
    await world.put({keys.word_key("blog", "switch"): b"on"})
    assert (await world.ask("blog.test")).status == 200
    assert site.starts == 1


async def test_waiting_page_for_browsers_only(world):
    site = await world.site("blog", sites.hello(), policy=Policy(while_starting=WhileStarting.PAGE))
    site.gate.clear()
    api = asyncio.get_running_loop().create_task(world.ask("blog.test", "/api", Accept="application/json"))
    image = asyncio.get_running_loop().create_task(
        world.ask("blog.test", "/x.png", Accept="image/*", Sec_Fetch_Mode="no-cors")
    )
    form = asyncio.get_running_loop().create_task(world.ask("blog.test", "/", "DELETE", **BROWSER))
    page = await world.ask("blog.test", **BROWSER)
    assert (page.status, page.headers["cache-control"], page.headers["retry-after"]) == (503, "no-store", "1")
    assert b'<meta http-equiv="refresh" content="1">' in page.body
    site.gate.set()
    assert [(await r).status for r in (api, image, form)] == [200, 200, 200]
    assert (await world.ask("blog.test", **BROWSER)).body == b"hello"
    assert site.starts == 1


async def test_a_quick_start_needs_no_waiting_page_and_a_failed_one_shows_why(world):
    page = Policy(while_starting=WhileStarting.PAGE)
    await world.site("blog", sites.hello(), policy=page, start_s=0.02)
    assert (await world.ask("blog.test", **BROWSER)).body == b"hello"
    await world.site("shop", sites.hello(), policy=page, refuse=Problem(Code.START_FAILED, "no"))
    assert b"Cannot start" in (await world.ask("shop.test", **BROWSER)).body


async def test_the_waiting_page_starts_the_app_though_nobody_waits(world):
    await world.site("blog", sites.hello(), policy=Policy(while_starting=WhileStarting.PAGE), start_s=0.4)
    assert (await world.ask("blog.test", **BROWSER)).status == 503
    await asyncio.wait_for(world.agent.begun.wait(), 5)
    assert (await world.ask("blog.test", **BROWSER)).status == 200


async def test_bots_do_not_wake_a_site_but_see_one_that_runs(world):
    site = await world.site("blog", sites.hello())
    await world.site("shop", sites.hello(), policy=Policy(wake_by_bots=True))
    bot = {"User_Agent": "Mozilla/5.0 (compatible; Googlebot/2.1)"}
    response = await world.ask("blog.test", **bot)
    assert (response.status, response.headers["retry-after"], site.starts) == (503, "3600", 0)
    assert (await world.ask("shop.test", **bot)).status == 200
    assert (await world.ask("blog.test")).status == 200
    assert (await world.ask("blog.test", **bot)).status == 200
    assert world.log()[0]["outcome"] == "bot"


async def test_a_dead_container_that_nobody_noticed_is_replaced_under_the_request(world):
    site = await world.site("blog", sites.hello())
    assert (await world.ask("blog.test")).status == 200
    world.agent.kill("blog", tell=False)
    connection = await world.connect()
    connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\nContent-Length: 5\r\n\r\nhello")
    assert (await connection.response()).status == 200
    connection.close()
    assert site.starts == 2
    assert world.log()[-1]["tries"] == 2


async def test_a_dead_container_that_its_agent_still_takes_for_alive(world):
    site = await world.site("blog", sites.hello())
    assert (await world.ask("blog.test")).status == 200
    live = world.agent.live["blog", "1"]
    world.agent.kill("blog", tell=False)
    world.agent.live["blog", "1"] = live
    asked = asyncio.get_running_loop().create_task(world.ask("blog.test"))
    await world.agent.until(lambda: len(world.agent.ensures) == 3)
    del world.agent.live["blog", "1"]
    assert (await asked).status == 200
    assert site.starts == 2


async def test_a_container_that_never_takes_a_connection_fails_fast_enough(world):
    await world.site("blog", sites.hello())
    assert (await world.ask("blog.test")).status == 200
    live = world.agent.live["blog", "1"]
    world.agent.kill("blog", tell=False)
    world.agent.live["blog", "1"] = live
    connection = await world.connect()
    response = await connection.ask("blog.test")
    assert response.status == 502
    assert len(world.agent.ensures) < 12
    connection.close()


async def test_a_web_dispatcher_that_restarts_costs_no_request(world):
    await world.site("blog", sites.hello())
    port = free_port()
    (world.path / "route.key").write_bytes(b"k" * 32)
    there = ComputeRow(dispatcher=f"127.0.0.1:{port}", cores=1, memory_bytes=1)
    await world.put(
        {
            keys.container_key("blog", "1"): msgspec.json.encode(ContainerRow(compute="there")),
            keys.compute_key("there"): msgspec.json.encode(there),
        }
    )
    asked = asyncio.get_running_loop().create_task(world.ask("blog.test", "/", "POST"))
    await asyncio.sleep(0.3)
    assert not asked.done()
    server = await asyncio.start_server(sites.echo_head, "127.0.0.1", port)
    response = await asked
    server.close()
    assert response.status == 200
    assert response.body.count(b"\r\nX-FastContainer-Route: blog 1 ") == 1


@pytest.mark.parametrize(
    ("request_", "times", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: blog.test\r\n\r\n", 2, 200, id="GET"),
        pytest.param(b"DELETE / HTTP/1.1\r\nHost: blog.test\r\n\r\n", 2, 200, id="DELETE"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: blog.test\r\nContent-Length: 0\r\n\r\n", 1, 502, id="POST"),
        pytest.param(b"PUT / HTTP/1.1\r\nHost: blog.test\r\nContent-Length: 1\r\n\r\nx", 1, 502, id="PUT, body sent"),
    ],
)
async def test_a_container_that_dies_under_a_request(world, request_, times, status):
    seen = 0

    @sites.quiet
    async def dies_once(reader, writer):
        nonlocal seen
        seen += 1
        await sites.read_head(reader)
        if seen == 1:
            if b"PUT" in request_:
                await reader.readexactly(1)
            world.agent.kill("blog")
            return
        writer.write(sites.text(b"hello"))

    await world.site("blog", dies_once)
    connection = await world.connect()
    connection.send(request_)
    response = await connection.response()
    assert (seen, response.status) == (times, status)
    assert b"127.0.0.1" not in response.raw
    assert (await connection.ask("blog.test")).status == 200
    connection.close()
    await world.agent.until(lambda: not any(world.agent.counts.values()))


async def test_a_container_that_always_dies_is_tried_twice(world):
    @sites.quiet
    async def dies(reader, writer):
        await sites.read_head(reader)

    await world.site("blog", dies)
    response = await world.ask("blog.test", **BROWSER)
    assert response.status == 502
    assert b"Interrupted" in response.body


async def test_requests_go_to_what_runs_while_another_starts_or_drains(world):
    site = await world.site("blog", sites.hello())
    assert (await world.ask("blog.test")).status == 200
    site.gate.clear()
    start = world.agent._tasks.start(world.agent.run("blog", "2"), name="second")
    await world.agent.until(lambda: ("blog", "2") in world.agent.live)
    for _ in range(5):
        assert (await world.ask("blog.test")).status == 200
    assert world.log()[-1]["container"] == "1"
    site.gate.set()
    await start
    world.agent.drain("blog", "1")
    for _ in range(5):
        assert (await world.ask("blog.test")).status == 200
    assert world.log()[-1]["container"] == "2"
    assert len(world.agent.ensures) == 1


async def test_draining_is_acknowledged_with_the_count(world):
    go_on = asyncio.Event()

    @sites.quiet
    async def slow(reader, writer):
        await sites.read_head(reader)
        await go_on.wait()
        writer.write(sites.text(b"hello"))

    await world.site("blog", slow)
    asked = asyncio.get_running_loop().create_task(world.ask("blog.test"))
    await world.agent.until(lambda: world.agent.counts.get("blog/1.1") == 1)
    told = len(world.agent.traffic)
    world.agent.drain("blog")
    await world.agent.until(lambda: len(world.agent.traffic) > told)
    assert world.agent.traffic[told] == {"blog/1.1": 1}
    go_on.set()
    assert (await asked).status == 200
    await world.agent.until(lambda: world.agent.counts["blog/1.1"] == 0)


async def test_a_frozen_one_gets_nothing_before_its_agent_has_thawed_it(world):
    thawed_when_asked = []

    @sites.quiet
    async def asked(reader, writer):
        await sites.read_head(reader)
        thawed_when_asked.append(world.agent.live["blog", "1"].status is Status.RUNNING)
        writer.write(sites.text(b"hello"))

    site = await world.site("blog", asked, policy=Policy(server_timing=True))
    assert (await world.ask("blog.test")).status == 200
    for number in range(1, 4):
        await world.agent.until(lambda: world.agent.counts["blog/1.1"] == 0)
        world.agent.freeze("blog")
        await world.agent.until(lambda number=number: world.agent.heard.get("blog/1.1") == number)
        responses = await asyncio.gather(*(world.ask("blog.test") for _ in range(5)))
        assert [r.status for r in responses] == [200] * 5
    assert thawed_when_asked == [True] * 16
    assert site.starts == 1
    assert len(world.agent.ensures) == 4
    assert "thaw;dur=0.5" in responses[0].headers["server-timing"]


async def test_bots_do_not_thaw(world):
    await world.site("blog", sites.hello())
    assert (await world.ask("blog.test")).status == 200
    world.agent.freeze("blog")
    await world.agent.until(lambda: "blog/1.1" in world.agent.heard)
    assert (await world.ask("blog.test", User_Agent="Googlebot/2.1")).status == 503
    assert world.agent.live["blog", "1"].status is Status.FROZEN


async def test_without_its_agent_what_runs_is_served_and_what_sleeps_waits_for_it(world):
    await world.site("blog", sites.hello())
    await world.site("shop", sites.hello())
    assert (await world.ask("blog.test")).status == 200
    await world.agent.stop()
    assert (await world.ask("blog.test")).status == 200
    waking = asyncio.get_running_loop().create_task(world.ask("shop.test"))
    await held(world, 1)
    assert (await world.ask("blog.test")).status == 200
    await world.agent.start()
    assert (await waking).status == 200


async def test_without_its_cmdb_known_apps_are_woken(world):
    await world.site("blog", sites.hello())
    world.store.down = True
    assert (await world.ask("blog.test")).status == 200
    world.store.down = False


async def test_metrics_and_log(world):
    await world.site("blog", sites.hello(), start_s=0.01)
    await world.ask("blog.test", "/x?y")
    await world.ask("nobody.test")
    reader, writer = await asyncio.open_connection("127.0.0.1", world.metrics_port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    for line in (
        'fastcontainer_userproxy_requests_total{app="blog",outcome="passed"} 1.0',
        'fastcontainer_userproxy_requests_total{app="",outcome="unknown_host"} 1.0',
        'fastcontainer_userproxy_wake_seconds_count{phase="held"} 1.0',
        'fastcontainer_userproxy_wake_seconds_count{phase="listen"} 1.0',
        'fastcontainer_userproxy_app_responses_total{app="blog"} 1.0',
        "fastcontainer_userproxy_held_requests 0.0",
        "fastcontainer_userproxy_cmcache_keys 2.0",
    ):
        assert line in text
    first, second = world.log()
    assert (first["method"], first["host"], first["path"], first["status"]) == ("GET", "blog.test", "/x?y", 200)
    assert (first["app"], first["container"], first["life"], first["cause"]) == ("blog", "1", "blog/1.1", "request")
    assert first["wake_ms"] >= 10
    assert (second["status"], second["outcome"]) == (404, "unknown_host")


async def test_the_log_is_begun_anew_when_it_was_moved(world):
    await world.ask("nobody.test", "/1")
    assert len(world.log()) == 1
    (world.path / "access/userproxy.log").rename(world.path / "old")
    await world.ask("nobody.test", "/2")
    assert [line["path"] for line in world.log()] == ["/2"]


def test_list_of_bots():
    for agent in (
        "Googlebot/2.1",
        "curl-healthcheck",
        "UptimeRobot/2.0",
        "kube-probe/1.29",
        "Slackbot-LinkExpanding 1.0",
    ):
        assert routing.is_bot(agent)
    for agent in ("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", "curl/8.5", "python-requests/2", "okhttp/4", ""):
        assert not routing.is_bot(agent)
