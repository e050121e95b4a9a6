"""The agent as a process: one at a time, ended politely, cleaned up after. What it does is in tests/system."""

import asyncio
import contextlib
import os
import signal
import urllib.request
from pathlib import Path

import pytest

from dispatcher.compute import daemon
from dispatcher.settings import Settings
from tests.plugins.compute import Host, fetch

pytestmark = pytest.mark.system


async def test_ended_politely_it_leaves_its_containers_alive_and_its_blanks_not(host: Host) -> None:
    await host.app("blog")
    live = await host.wake("blog")
    await host.detach()
    host.kill_agent(signal.SIGTERM)
    assert (await fetch(live.address)).startswith(b"HTTP/1.1 404")
    assert slots(host) == [str(host.slot(live))]
    assert not exists(host.settings.agent_socket)
    await host.start_agent()
    assert (await host.proxy()).live == {("blog", "1"): live}


def slots(host: Host) -> list[str]:
    return [path.name for path in Path(host.settings.run_dir, "slots").iterdir()]


def exists(path: str) -> bool:
    return Path(path).exists()


def mode(path: str) -> int:
    return Path(path).stat().st_mode & 0o777


async def test_its_figures_are_served(host: Host) -> None:
    await host.app("blog")
    await host.wake("blog")

    def read() -> str:
        with urllib.request.urlopen(f"http://{host.settings.agent_metrics}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    for _ in range(100):  # the gauges are set at each tick
        text = await asyncio.to_thread(read)
        if 'fastcontainer_containers{state="running"} 1.0' in text:
            break
        await asyncio.sleep(0.05)
    assert 'fastcontainer_containers{state="running"} 1.0' in text
    assert 'fastcontainer_starts_total{cause="request"} 1.0' in text
    assert "fastcontainer_cmcache_keys" in text
    assert "blog" not in text  # no series per app


async def test_no_other_user_reads_its_journal_or_takes_its_lock(host: Host) -> None:
    await host.app("blog")
    await host.wake("blog")
    assert [mode(f"{host.settings.run_dir}/{name}") for name in ("journal", "agent.lock")] == [0o600, 0o600]


async def test_of_two_agents_at_once_the_second_ends_and_harms_nothing(host: Host) -> None:
    await host.app("blog")
    live = await host.wake("blog")
    first = host.agent
    with pytest.raises(AssertionError, match="an agent runs in"):
        await host.start_second_agent()
    assert host.agent is first
    assert await host.wake("blog") == live


def test_cleaning_where_nothing_ever_ran_does_nothing(tmp_path: Path) -> None:
    assert daemon.clean(Settings(run_dir=str(tmp_path / "absent"))) == []
    assert not (tmp_path / "absent").exists()


async def test_cleaning_twice_is_harmless(host: Host) -> None:
    await host.app("blog")
    await host.wake("blog")
    await host.detach()
    host.kill_agent()
    host.kill_launcher()
    await host.clean()
    await host.clean()
    await host.start()
    await host.wake("blog")


async def test_a_blank_killed_in_reserve_is_noticed_when_it_is_needed(host: Host) -> None:
    await host.app("blog")
    await host.known("blog")
    for name in ("a", "b"):
        await host.app(name)
    assert host.launcher is not None
    for pid in children(host.launcher.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    live = await host.wake("blog")
    assert (await fetch(live.address)).startswith(b"HTTP/1.1 404")


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
