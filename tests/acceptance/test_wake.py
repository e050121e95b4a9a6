"""A request for a sleeping site starts its container, is held meanwhile, and is answered; silence stops it."""

import asyncio
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.acceptance.load import percentile
from tests.fakes.clients import Connection, ask
from tests.fakes.ports import free_port
from tests.plugins.installation import BIN, wait_for

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
SITE = ("python3", "-SI", "/srv/site.py")


async def test_php_wakes_is_shown_and_sleeps_again_without_a_trace(installation):
    installation.cli("app", "edit", "php", "--idle", "2s")
    before = installation.traces()
    assert installation.cli_json("ps") == []
    response = await installation.ask("php")
    assert response.status == 200 and b"PHP Version" in response.body
    (shown,) = await wait_for(lambda: installation.cli_json("ps"), 2.0)
    assert (shown["app"], shown["status"], shown["reason"]) == ("php", "running", "request")
    assert installation.traces() - before
    await installation.asleep("php", within_s=6.0)
    await wait_for(lambda: not installation.traces() - before, 3.0, "nothing is left of it")
    assert installation.traces() == before
    assert installation.cli_json("ps") == []


HOSTS = (
    b"odd.localhost",
    b"oDD.LocalHost",
    b"odd.localhost:8080",
    b"ODD.localhost:1",
    b"odd.localhost.",
    b"odd.localhost.:65535",
    b"a_b.odd.localhost",  # by the wildcard
    b"xn--bcher-kva.odd.localhost",
    b"1--2.odd.localhost",
    b"x" * 63 + b".ODD.localhost",
    b"deep.er.than.one.label.odd.localhost",
)


async def test_the_container_sees_the_host_byte_for_byte(installation):
    await installation.create("odd", domains=("odd.localhost", "*.odd.localhost"))
    for host in HOSTS:
        connection = await Connection.open(installation.port)
        connection.send(b"GET /head HTTP/1.1\r\nhOST: %s\r\n\r\n" % host)
        response = await connection.response()
        connection.close()
        assert response.status == 200, host
        hosts = [line for line in response.body.split(b"\r\n") if line.lower().startswith(b"host:")]
        assert [line.partition(b":")[2].strip() for line in hosts] == [host]


async def test_no_client_sees_a_containers_address(installation):
    await installation.create("shy")
    await installation.create("broken", "/nonexistent", start_timeout_s=2.0)
    live = await installation.wake("shy")
    address = live.address.partition(":")[0]
    asked = asyncio.get_running_loop().create_task(
        installation.ask("shy", "/?s=5", "POST", content_length="0"), name="cut"
    )
    await wait_for(lambda: _in_flight(installation, "shy"), 3.0, "the request is in the container")
    os.kill(min(installation.pids_of(live)), signal.SIGKILL)  # its PID 1
    seen = [await asked]
    assert seen[0].status == 502
    seen += [await installation.ask(app, "/head") for app in ("shy", "broken", "nobody", "shy")]
    seen.append(await installation.ask("broken", accept="application/json"))
    seen.append(await installation.ask("shy", "/drip?n=2&s=0.01"))
    assert [response.status for response in seen] == [502, 200, 503, 404, 200, 503, 200]
    network = b"100.99."
    for response in seen:
        assert address.encode() not in response.raw and network not in response.raw


def _in_flight(installation, app):
    """Established connections to its port, as its own network namespace tells."""
    for pids in installation.slots().values():
        for pid in pids[:1]:
            try:
                lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
            except OSError:
                continue
            if any(line.split()[1].endswith(":0050") and line.split()[3] == "01" for line in lines):
                return True
    return False


async def test_200_at_once_to_a_single_threaded_server_with_a_backlog_of_5(installation):
    await installation.create("narrow", *SITE, "--backlog", "5", "--one-at-a-time")
    began = time.monotonic()

    async def one() -> tuple[int, float]:
        response = await installation.ask("narrow")
        return response.status, time.monotonic() - began

    answers = await asyncio.gather(*(one() for _ in range(200)))
    times = sorted(s for _, s in answers)
    print(f"200 at once: p50 {percentile(times, 50) * 1000:.0f} ms, p99 {percentile(times, 99) * 1000:.0f} ms")
    assert [status for status, _ in answers] == [200] * 200
    assert len(await installation.events("narrow", "started")) == 1
    assert percentile(times, 99) <= 3.0


async def test_20_sleeping_sites_at_once(installation):
    names = [f"many-{number}" for number in range(20)]
    await asyncio.gather(*(installation.create(name) for name in names))
    began = time.monotonic()
    answers = await asyncio.gather(*(installation.ask(name) for name in names))
    print(f"20 sites at once: {time.monotonic() - began:.2f} s")
    assert [answer.status for answer in answers] == [200] * 20
    assert len({answer.body for answer in answers}) == 20
    lives = await installation.lives()
    assert {live.app for live in lives.values()} >= set(names)
    assert all(live.generation == 1 for live in lives.values() if live.app in names)
    await asyncio.gather(*(installation.remove(name) for name in names))


STOPPED = {
    "ignores-term": (*SITE, "--ignore-term"),
    "shell": ("sh", "-c", "python3 -SI /srv/site.py; true"),
    "php-s": ("php", "-S", "0.0.0.0:80", "-t", "/srv"),
}


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize("kind", STOPPED)
async def test_a_stop_takes_200_ms_at_most(installation, kind, init):
    name = f"{kind}-{'init' if init else 'bare'}"
    await installation.create(name, *STOPPED[kind], init=init)
    live = await installation.wake(name, "/site.py")
    pids = installation.pids_of(live)
    assert pids
    installation.cli("stop", name)
    assert not await installation.lives(name)
    assert not set(pids) & set(psutil.pids())

    async def told():
        return await installation.events(name, "stopped")

    (stopped,) = await wait_for(told, 2.0)
    (draining,) = await installation.events(name, "draining")
    assert stopped.at - draining.at <= 0.2


async def test_mitmdump_does_what_the_console_script_does(installation):
    await installation.create("either")
    port, metrics = free_port(), free_port()
    more = {
        "FASTCONTAINER_USERPROXY_LISTEN": f"127.0.0.1:{port}",
        "FASTCONTAINER_USERPROXY_METRICS": f"127.0.0.1:{metrics}",
    }
    process = await asyncio.create_subprocess_exec(
        str(BIN / "mitmdump"), "-s", "addons/userproxy.py", cwd=ROOT, env=installation.environment | more,
        stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await wait_for(lambda: _serves(port), 30.0, "mitmdump serves")
        by_mitmdump = await ask(port, "either.localhost", "/head")
        (live,) = await installation.running("either")
        installation.cli("stop", "either")
        by_script = await installation.ask("either", "/head")
    finally:
        process.terminate()
        await process.wait()
    assert live.generation == 1
    assert by_script.status == 200, by_script.raw
    assert by_mitmdump.body == by_script.body
    without_boot = [{k: v for k, v in each.headers.items() if k != "x-boot"} for each in (by_mitmdump, by_script)]
    assert without_boot[0] == without_boot[1]


async def _serves(port):
    try:
        return "x-request-id" in (await ask(port, "nobody.test")).headers
    except (OSError, asyncio.IncompleteReadError):
        return False
