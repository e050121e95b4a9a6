"""Clients that take their time at the UserLB, with its limits shortened. For the UserProxy see tests/addons/test_refusing.py."""

import asyncio
import time

import pytest

from dispatcher.userlb import config
from dispatcher.userlb.lanes import Allow, Open, Route, SlotId
from tests.dispatcher.userlb.conftest import front as front
from tests.fakes.clients import Connection

SLOT = SlotId("lane0", 0)


@pytest.fixture(autouse=True)
def short(monkeypatch) -> None:
    monkeypatch.setattr(config, "HEAD_S", 1)
    monkeypatch.setattr(config, "BODY_S", 1)
    monkeypatch.setattr(config, "CLIENT_S", 2)


async def warm(front, response_ms: int = 9000, **options) -> None:
    address = await front.site("warm", **options)
    await front.runtime.do(
        [Open(SLOT, address, 1), Allow("lane0", f"{response_ms}:9", True), Route("blog.test", "lane0", True)]
    )


async def trickle(connection: Connection, data: bytes) -> str:
    """A byte every fifth of a second until it is answered or cut."""
    reading = asyncio.ensure_future(connection.closed(within_s=10))  # noqa: TID251 - awaited below
    for number in range(len(data)):
        if reading.done():
            break
        connection.send(data[number : number + 1])
        await asyncio.wait([reading], timeout=0.2)
    answer = await reading
    connection.close()
    return answer.split(b" ")[1].decode() if answer else "cut"


async def test_heads_that_trickle_and_others_are_served_meanwhile(front) -> None:
    await warm(front)
    began = time.monotonic()
    slow = [await Connection.open(front.port) for _ in range(50)]
    head = b"GET / HTTP/1.1\r\nHost: blog.test\r\nX: " + b"a" * 200
    answers = asyncio.gather(*(trickle(connection, head) for connection in slow))
    assert (await front.ask("blog.test")).status == 200
    assert await answers == ["408"] * 50
    assert time.monotonic() - began < 5
    assert front.asked("warm") == 1


async def test_a_small_body_that_trickles_takes_no_place_at_the_container(front) -> None:
    await warm(front)
    connection = await Connection.open(front.port)
    connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\nContent-Length: 1000\r\n\r\n")
    answer = asyncio.gather(trickle(connection, b"a" * 1000))
    assert (await front.ask("blog.test")).status == 200  # it has one place
    assert await answer == ["408"]
    assert front.asked("warm") == 1


async def test_a_large_body_that_stops_coming_ends_with_the_apps_time(front) -> None:
    await warm(front, response_ms=2000, takes_s=20.0)
    connection = await Connection.open(front.port)
    began = time.monotonic()
    connection.send(b"POST / HTTP/1.1\r\nHost: blog.test\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 50_000)
    assert (await connection.response()).status == 504
    assert time.monotonic() - began < 6
    connection.close()


async def test_a_reader_that_stops_reading_is_given_up_and_its_place_is_free(front) -> None:
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n" + b"a" * 50_000_000
    await warm(front, answers=False, says=large)
    connection = await Connection.open(front.port)
    connection.send(b"GET / HTTP/1.1\r\nHost: blog.test\r\n\r\n")
    await connection.head()
    connection.writer.transport.pause_reading()

    async def in_flight() -> int:
        return (await front.runtime.read()).slots[SLOT].in_flight

    async with asyncio.timeout(10):
        while not await in_flight():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        while await in_flight():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    connection.writer.transport.abort()
