"""`fastcontainer userproxy --workers 2`, with a real etcd; and its parent alone, with workers that do what the test needs."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from addons import workers
from addons.workers import PAUSE_FIRST_S, PAUSE_LAST_S, STEADY_S, Workers, pause_s
from dispatcher.settings import METRICS_STEP
from tests.addons.test_scripts import BIN, ROOT, Host, seed
from tests.fakes import sites
from tests.fakes.clients import Connection, ask
from tests.fakes.ports import free_port


@pytest.mark.parametrize(
    ("before_s", "lived_s", "pause"),
    [
        (None, 0.1, PAUSE_FIRST_S),
        (PAUSE_FIRST_S, 0.1, PAUSE_FIRST_S * 2),
        (PAUSE_LAST_S * 0.9, 0.1, PAUSE_LAST_S),
        (PAUSE_LAST_S, 0.1, PAUSE_LAST_S),
        (PAUSE_LAST_S, STEADY_S, PAUSE_FIRST_S),
    ],
)
def test_pauses(before_s, lived_s, pause):
    assert pause_s(before_s, lived_s) == pause


async def until(is_so, within_s=20.0):
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def serves(port: int) -> bool:
    try:
        return (await ask(port, "blog.test")).status == 200
    except (OSError, asyncio.IncompleteReadError):
        return False


async def until_served(port: int, *, yes: bool = True) -> None:
    async with asyncio.timeout(30):
        while await serves(port) is not yes:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def counted(port: int) -> str:
    """The site's requests by this worker's metrics."""
    connection = await Connection.open(port)
    connection.send(b"GET /metrics HTTP/1.1\r\n\r\n")
    text = (await connection.response()).body.decode()
    connection.close()
    return next(
        (line.split()[1] for line in text.splitlines() if line.startswith("fastcontainer_userproxy_requests")), "0"
    )


def consecutive_ports() -> int:
    while True:
        first = free_port()
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", first + 1)):
            return first


async def test_two_workers_live_drain_and_are_started_again(etcd, tmp_path, capfd):
    await seed(etcd.endpoint, "here", "127.0.0.1:1")
    host = Host(tmp_path, etcd.endpoint)
    first, metrics = consecutive_ports(), free_port()
    host.environ |= {
        "FASTCONTAINER_USERPROXY_LISTEN": f"127.0.0.1:{first}",
        "FASTCONTAINER_USERPROXY_METRICS": f"127.0.0.1:{metrics}",
    }
    go_on = asyncio.Event()

    @sites.quiet
    async def site(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/slow" in await sites.read_head(reader):
            await go_on.wait()
        writer.write(sites.text(b"hello"))

    await host.agent.start()
    host.agent.site("blog", site)
    process = await asyncio.create_subprocess_exec(
        *(str(BIN / "fastcontainer"), "userproxy", "--workers", "2"),
        cwd=ROOT,
        env=os.environ | host.environ,
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        for port in (first, first + 1):
            await until_served(port)
        await until(lambda: sorted(host.agent.attached) == ["userproxy", "userproxy-2"])
        assert (await ask(first + 1, "blog.test")).status == 200
        assert [await counted(metrics), await counted(metrics + METRICS_STEP)] == ["1.0", "2.0"]

        victim = next(
            child for child in psutil.Process(process.pid).children() if child.cmdline()[-2:] == ["--worker", "2"]
        )
        slow = await Connection.open(first)
        slow.send(b"GET /slow HTTP/1.1\r\nHost: blog.test\r\n\r\n")
        victim.kill()
        assert await serves(first)
        await until_served(first + 1)
        assert f"worker 2 ({victim.pid}) ended with -9" in capfd.readouterr().err

        process.send_signal(signal.SIGTERM)
        for port in (first, first + 1):
            await until_served(port, yes=False)
        go_on.set()
        assert (await slow.response(within_s=5)).body == b"hello"
        slow.close()
        assert await asyncio.wait_for(process.wait(), 15) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await host.agent.close()
    assert (tmp_path / "access/userproxy.log").read_text().count("/slow") == 1
    assert (tmp_path / "access/userproxy-2.log").exists()


def script(path: Path, text: str) -> tuple[str, ...]:
    path.write_text(text)
    return (sys.executable, "-S", str(path))


async def test_workers_that_die_at_once_are_started_more_and_more_slowly(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "PAUSE_FIRST_S", 0.02)
    starts = tmp_path / "starts"
    dies = script(tmp_path / "dies.py", f"import time; print(time.monotonic(), file=open({str(starts)!r}, 'a'))")
    parent = Workers([dies])
    running = asyncio.get_running_loop().create_task(parent.run(), name="parent")
    await until(lambda: starts.exists() and len(starts.read_text().splitlines()) >= 5)
    parent.stop()
    await asyncio.wait_for(running, 5)
    times = [float(line) for line in starts.read_text().splitlines()]
    assert times[4] - times[3] >= 0.16 > 0.02


async def test_one_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "STOP_S_MAX", 0.3)
    ready = tmp_path / "ready"
    stays = script(
        tmp_path / "stays.py",
        f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(ready)!r}, 'w').close(); time.sleep(60)",
    )
    parent = Workers([stays])
    running = asyncio.get_running_loop().create_task(parent.run(), name="parent")
    await until(ready.exists)
    parent.stop()
    await asyncio.wait_for(running, 5)


async def test_a_worker_ends_with_its_parent(tmp_path, etcd):
    await seed(etcd.endpoint, "here", "127.0.0.1:1")
    host = Host(tmp_path, etcd.endpoint)
    await host.agent.start()
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *workers.command_of(1), cwd=ROOT, env=os.environ | host.environ, stdin=reading
    )
    os.close(reading)
    await host.agent.until(lambda: host.agent.attached == ["userproxy"], within_s=30)
    os.close(writing)
    assert await asyncio.wait_for(process.wait(), 15) == 0
    await host.agent.close()


def test_ports_that_two_would_take_are_refused():
    environ = {"PATH": os.environ["PATH"], "FASTCONTAINER_USERPROXY_LISTEN": "127.0.0.1:8080"}
    done = subprocess.run(
        [BIN / "fastcontainer", "userproxy", "--workers", "2"], env=environ, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "2 workers: webdispatcher_listen and userproxy_listen both come to 127.0.0.1:8081" in done.stderr
