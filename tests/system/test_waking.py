"""Sites that sleep, and the first who asks."""

import asyncio
import time

import pytest

from dispatcher.compute.protocol import Answer, Live
from dispatcher.domain import ContainerRow, Policy, Status
from tests.plugins.compute import Host, fetch, python

pytestmark = pytest.mark.system


async def test_a_sleeping_site_wakes_and_answers(host: Host) -> None:
    (host.content / "index.html").write_text("hello")
    await host.app("blog")
    answer = await host.ensure("blog")
    assert isinstance(answer, Answer)
    assert answer.live.status is Status.RUNNING
    assert (await fetch(answer.live.address)).endswith(b"hello")
    assert {"queue", "cgroup", "mounts", "exec", "listen"} <= set(answer.phases)
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.RUNNING)
    row = await host.row("blog")
    assert row is not None
    assert (row.compute, row.generation, row.local_address) == ("here", 1, answer.live.address)
    assert row.image and row.started and row.expires > row.started
    assert "request" in (await host.event("blog", "started")).message
    assert "exec=" in (await host.event("blog", "ready")).message


async def test_whoever_asks_at_once_shares_one_start(host: Host) -> None:
    await host.app("blog", *python("time.sleep(0.3); serve()"))
    await host.known("blog")
    proxy = await host.proxy()
    answers = await asyncio.gather(*(proxy.ensure("blog") for _ in range(200)))
    assert len({answer.live for answer in answers if isinstance(answer, Answer)}) == 1
    assert [event.kind for event in await host.events("blog")].count("started") == 1


async def test_twenty_sites_at_once(host: Host) -> None:
    (host.content / "index.html").write_text("hello")
    names = [f"site{number}" for number in range(20)]
    for name in names:
        await host.app(name)
    lives = await asyncio.gather(*(host.wake(name) for name in names))
    assert len({live.address for live in lives}) == 20
    bodies = await asyncio.gather(*(fetch(live.address) for live in lives))
    assert all(body.endswith(b"hello") for body in bodies)


async def test_a_backlog_bounds_what_a_site_is_given_at_once(host: Host) -> None:
    program = "s = socket.socket(); s.bind(('0.0.0.0', 80)); s.listen(5); signal.pause()"
    await host.app("blog", *python(program))
    assert (await host.wake("blog")).concurrency == 5


async def test_ready_means_that_the_health_path_answers(host: Host) -> None:
    program = """
began = time.monotonic()
server = socket.create_server(("0.0.0.0", 80))
while True:
    connection = server.accept()[0]
    word = b"200 OK" if time.monotonic() - began > 0.4 else b"503 Busy"
    connection.recv(65536); connection.sendall(b"HTTP/1.1 " + word + b"\\r\\n\\r\\n"); connection.close()
"""
    await host.app("blog", *python(program), policy=Policy(health_path="/up"))
    answer = await host.ensure("blog")
    assert isinstance(answer, Answer)
    assert answer.phases["health"] > 300
    assert (await fetch(answer.live.address)).startswith(b"HTTP/1.1 200")


async def test_it_sleeps_after_its_idle_time_and_wakes_again_as_another_life(host: Host) -> None:
    await host.app("blog", policy=Policy(idle_s=0.5))
    first = await host.wake("blog")
    await (await host.proxy()).until_status("blog", "1", None)
    await host.until_rows("blog", lambda rows: rows["1"] == ContainerRow("here", generation=1))
    second = await host.wake("blog")
    assert (first.generation, second.generation) == (1, 2)
    assert first.address != second.address
    assert (await host.event("blog", "stopped")).message == "idle"


async def test_what_is_in_flight_keeps_it_awake(host: Host) -> None:
    await host.app("blog", policy=Policy(idle_s=0.3))
    live = await host.wake("blog")
    proxy = await host.proxy()
    proxy.traffic(live.life, 1)
    with pytest.raises(TimeoutError):
        await proxy.until_status("blog", "1", Status.DRAINING, within_s=1.2)
    proxy.traffic(live.life, 0)
    await proxy.until_status("blog", "1", None)


async def test_at_the_end_of_its_lifespan_a_successor_listens_before_it_drains(host: Host) -> None:
    await host.app("blog", *python("time.sleep(0.3); serve()"), policy=Policy(lifespan_s=1.0, lifespan_jitter=0))
    first = await host.wake("blog")
    proxy = await host.proxy()
    proxy.traffic(first.life, 1)
    await proxy.until_status("blog", "1", Status.DRAINING)
    heard = [
        (message.container, message.status)
        for message in proxy.heard
        if isinstance(message, Live) and message.status is not Status.STARTING
    ]
    assert heard == [("1", Status.RUNNING), ("2", Status.RUNNING), ("1", Status.DRAINING)]
    assert (await fetch(proxy.live["blog", "2"].address)).endswith(b"ok")
    assert (await fetch(first.address)).endswith(b"ok")  # it goes on until what is in flight has ended
    proxy.traffic(first.life, 0)
    await proxy.until_status("blog", "1", None)
    await host.until_rows("blog", lambda rows: "1" not in rows and "2" in rows)


async def test_what_is_in_flight_past_lifespan_and_grace_is_cut_and_said(host: Host) -> None:
    await host.app("blog", policy=Policy(lifespan_s=0.5, lifespan_jitter=0, drain_grace_s=0.5))
    began = time.monotonic()
    first = await host.wake("blog")
    proxy = await host.proxy()
    proxy.traffic(first.life, 3)
    await proxy.until_status("blog", "1", None)
    assert 0.9 < time.monotonic() - began < 3
    assert "3 requests in flight were cut" in (await host.event("blog", "cut")).message
