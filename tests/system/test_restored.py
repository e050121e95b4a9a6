"""Begun from an image of its processes: taken when it falls asleep, restored by the next request."""

import asyncio
import re
import time
from pathlib import Path

import msgspec
import pytest

from dispatcher.compute.protocol import Live
from dispatcher.coreapi import service
from dispatcher.domain import AppSpec, ImageAt, Policy, Start, Status
from tests.plugins.compute import Host, fetch, python, until
from tests.system.test_definitions import define, hook, notes

pytestmark = pytest.mark.system

RESTORED = Policy(idle_s=0.3, start=Start.RESTORED, restore_signal="USR1")
SLOW = python("""
time.sleep(2)
requests = told = 0
def answer(connection):
    global requests
    connection.recv(65536)
    requests += 1
    body = b"%d %d %s" % (requests, told, socket.gethostname().encode())
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    connection.close()
def tell(*_):
    global told
    told += 1
signal.signal(signal.SIGUSR1, tell)
serve()
""")

SOON = tuple(word.replace("time.sleep(2)", "time.sleep(0.3)") for word in SLOW)


def images(host: Host) -> list[Path]:
    place = Path(host.settings.state_dir, "checkpoints/blog")
    return [each for each in place.iterdir() if not each.name.startswith(".")] if place.is_dir() else []


async def asked(live: Live) -> list[str]:
    return (await fetch(live.address)).rpartition(b"\r\n\r\n")[2].decode().split()


async def until_asleep(host: Host) -> None:
    await (await host.proxy()).until_status("blog", "1", None, within_s=20)
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.REGISTERED)


async def until_told(host: Host, kind: str, why: str) -> None:
    async with asyncio.timeout(10):
        while not any(row.kind == kind and why in row.message for row in await host.events("blog")):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def wake(host: Host) -> tuple[Live, float]:
    began = time.monotonic()
    live = await host.wake("blog")
    return live, time.monotonic() - began


async def dumped(host: Host, policy: Policy = RESTORED) -> float:
    """How long its cold start took."""
    await host.app("blog", *SLOW, policy=policy)
    live, took_s = await wake(host)
    assert await asked(live) == ["1", "0", "blog"]
    await until_asleep(host)
    await until(lambda: len(images(host)) == 1)
    return took_s


async def test_the_first_sleep_makes_an_image_and_later_wakes_begin_from_it(host: Host) -> None:
    cold_s = await dumped(host)
    assert "an image of" in (await host.event("blog", "dumped")).message
    (image,) = images(host)
    for _ in range(2):
        live, restored_s = await wake(host)
        await asyncio.sleep(0.05)
        assert await asked(live) == ["2", "1", "blog"], "it begins where its image was taken, and is told"
        assert restored_s * 3 < cold_s
        await until_asleep(host)
    assert images(host) == [image]
    assert re.fullmatch(r"from its image, in \d+ ms", (await host.event("blog", "restored")).message)


@pytest.mark.parametrize("at", [ImageAt.LISTEN, ImageAt.READY])
async def test_an_image_may_be_taken_before_the_first_request(host: Host, at: ImageAt) -> None:
    """One that begins before it listens has heard by then that it was restored."""
    await host.app("blog", *SOON, policy=msgspec.structs.replace(RESTORED, image_at=at))
    live, _ = await wake(host)
    assert await asked(live) == ["1", "0", "blog"]
    (image,) = images(host)
    for _ in range(2):
        await until_asleep(host)
        live, _ = await wake(host)
        if at is ImageAt.READY:
            await asyncio.sleep(0.05)
        assert await asked(live) == ["1", "1", "blog"]
    assert images(host) == [image]
    ready = (await host.event("blog", "ready")).message
    assert "restore=" in ready
    assert "dump=" not in ready


async def test_auto_tries_an_image_where_a_cold_start_is_slow(host: Host) -> None:
    await host.app("blog", *SOON, policy=Policy(idle_s=0.3, start=Start.AUTO, restore_signal="USR1"))
    await wake(host)
    await (await host.proxy()).stop("blog")
    await until_asleep(host)
    assert images(host) == []
    live, _ = await wake(host)
    assert await asked(live) == ["1", "0", "blog"]
    await until_asleep(host)
    assert "how long one from an image would is to be seen" in (await host.event("blog", "stopped")).message
    assert len(images(host)) == 1
    for why in ("one from an image was not measured yet", "one from its image takes"):
        live, _ = await wake(host)
        assert (await asked(live))[0] == "2"
        await until_told(host, "restored", why)
        await (await host.proxy()).stop("blog")
        await until_asleep(host)


async def test_what_cannot_be_restored_is_started_anew_and_dumped_again(host: Host) -> None:
    await dumped(host)
    (image,) = images(host)
    for path in image.glob("core-*.img"):
        path.write_bytes(b"x" * path.stat().st_size)
    live, _ = await wake(host)
    assert (await asked(live))[0] == "1"
    assert "criu restore ended with 1" in (await host.event("blog", "not_restored")).message
    await until_asleep(host)
    await until(lambda: len(images(host)) == 1 and images(host) != [image])


async def test_a_changed_definition_forgets_the_image(host: Host) -> None:
    await dumped(host)
    (image,) = images(host)
    await host.edit("blog", env={"A": "1"})
    await host.known("blog")
    live, _ = await wake(host)
    assert (await asked(live))[0] == "1"
    assert "its definition has changed" in (await host.event("blog", "not_restored")).message
    await until_asleep(host)
    await until(lambda: len(images(host)) == 1 and images(host) != [image])


async def test_an_app_by_a_definition_is_restored_with_all_that_it_says(host: Host) -> None:
    """Hooks are told, what is mounted over its files is there with what was in it."""
    define(
        host,
        '    c.command("x")\n    c.tmpfs("/cache")\n    c.mask("/srv/index.html")\n    c.hostname = "www"\n    c.readiness(80)\n'
        + "".join(
            hook(phase, f"note(container, '{phase}')", name=phase) for phase in ("before_restore", "after_restore")
        ),
    )
    program = python(
        """
    made = open("/cache/made", "a+")
    def answer(connection):
        made.write("x"); made.flush()
        body = f"{os.path.getsize('/cache/made')} {os.path.getsize('/srv/index.html')} {socket.gethostname()}".encode()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
        connection.close()
    serve()
    """.replace("\n    ", "\n")
    )
    (host.content / "index.html").write_text("hidden")
    await host.app("blog", *program, definition="site", policy=Policy(idle_s=0.3, start=Start.RESTORED))
    for size in ("1", "2"):
        live, _ = await wake(host)
        assert await asked(live) == [size, "0", "www"], host.log.read_text()
        await until_asleep(host)
    assert notes(host) == ["blog before_restore", "blog after_restore"]


async def test_what_an_image_could_not_hold_is_refused(host: Host) -> None:
    define(host, '    c.bootstrap.image("php")\n    c.command("sleep", "9")\n')
    await service.create_app(host.store, "blog", AppSpec(definition="site", policy=RESTORED), compute="here")
    refused = await host.refused("blog")
    assert "policy.start 'restored' is not possible together with bootstrap.image; 'frozen' is" in refused.message


async def test_a_restored_one_outlives_its_agent(host: Host) -> None:
    await dumped(host, msgspec.structs.replace(RESTORED, idle_s=3))
    live, _ = await wake(host)
    await host.detach()
    host.kill_agent()
    await host.start_agent()
    again, _ = await wake(host)
    assert again.life == live.life
    assert (await asked(again))[0] == "2"
    await (await host.proxy()).stop("blog")
