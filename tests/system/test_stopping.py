"""Ends: quick, whatever the program thinks of signals, and without a trace."""

import asyncio
import ipaddress
import socket
import time
from pathlib import Path

import pytest

from containerlib import process
from dispatcher.compute.protocol import Live
from dispatcher.domain import Policy, Status
from tests.plugins.compute import PATIENCE, Host, python, until

pytestmark = pytest.mark.system

SH = ("sh", "-c", "busybox httpd -f -p 80 -h /srv; true")
PHP = ("php", "-S", "0.0.0.0:80", "-t", "/srv")
IGNORES = python("signal.signal(signal.SIGTERM, signal.SIG_IGN); serve()")
CATCHES = python("signal.signal(signal.SIGTERM, lambda *_: print('no')); serve()")


@pytest.mark.parametrize("init", [True, False], ids=["init", "no init"])
@pytest.mark.parametrize("command", [SH, PHP, IGNORES, CATCHES], ids=["sh -c", "php -S", "ignores", "catches"])
async def test_a_stop_takes_at_most_200_ms(host: Host, command: tuple[str, ...], init: bool) -> None:
    await host.app("blog", *command, init=init)
    await host.wake("blog")
    pids = await host.processes("blog")
    proxy = await host.proxy()
    began = time.monotonic()
    done = await proxy.stop("blog")
    took_s = time.monotonic() - began
    assert done.lives == ("blog/1.1",)
    await until(lambda: {_state(pid) for pid in pids} == {"gone"})  # the launcher reaps PID 1 a moment after its end
    assert took_s <= 0.25 * PATIENCE  # 200 ms, and this machine's noise


async def test_a_program_that_cleans_up_has_its_grace(host: Host) -> None:
    program = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.4), print('clean'), os._exit(0))); serve()"
    await host.app("blog", *python(program), policy=Policy(stop_grace_s=5))
    await host.wake("blog")
    await (await host.proxy()).stop("blog")
    assert "out clean" in host.lines("blog")


async def test_a_stop_waits_for_what_is_in_flight_unless_it_is_to_be_now(host: Host) -> None:
    await host.app("blog")
    live = await host.wake("blog")
    proxy = await host.proxy()
    proxy.traffic(live.life, 1)
    stopping = asyncio.get_running_loop().create_task(proxy.stop("blog"))
    await proxy.until_status("blog", "1", Status.DRAINING)
    await asyncio.sleep(0.5)
    assert not stopping.done()
    await proxy.stop("blog", now=True)
    assert (await stopping).lives == ("blog/1.1",)


async def test_a_thousand_orphans_leave_no_zombie(host: Host) -> None:
    orphans = """
for _ in range(1000):
    if (child := os.fork()) == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.waitpid(child, 0)
print("orphaned")
serve()
"""
    await host.app("blog", *python(orphans), pids=100)
    await host.wake("blog")
    await host.until_line("blog", "out orphaned")
    (init, program) = await host.processes("blog")
    await until(lambda: process.children(init) == [program])  # those that ended and were not reaped are children, too
    assert process.children(program) == []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


async def test_nothing_is_left_of_a_container_that_stopped(host: Host) -> None:
    await host.app(
        "blog", *python("first = os.getpid(); os.fork() or os.setsid(); os.fork(); serve(80 + os.getpid() - first)")
    )
    await host.wake("blog")
    pids = await host.processes("blog")
    assert len(pids) >= 3  # some may not have been forked yet
    live = (await host.proxy()).live["blog", "1"]
    assert _traces(host, live) == [True, True]
    await (await host.proxy()).stop("blog", now=True)
    await until(lambda: {_state(pid) for pid in pids} == {"gone"})
    await until(lambda: _traces(host, live) == [False, False])


def _traces(host: Host, live: Live) -> list[bool]:
    """Whether its files and its link are there."""
    name = f"fc{int(ipaddress.IPv4Address(live.address.partition(':')[0])):08x}"
    files = Path(host.settings.run_dir, "slots", str(host.slot(live)))
    return [files.exists(), name in [link for _, link in socket.if_nameindex()]]


async def test_after_everything_was_killed_clean_leaves_nothing(host: Host) -> None:
    await host.app("blog")
    await host.app("shop", *IGNORES)
    await host.wake("blog")
    await host.wake("shop")
    pids = [*await host.processes("blog"), *await host.processes("shop")]
    await host.detach()
    host.kill_agent()
    host.kill_launcher()
    assert all(_state(pid) in "SR" for pid in pids)
    await host.clean()
    await until(lambda: all(_state(pid) == "gone" for pid in pids))
    assert _files(host) == []
    # What the kernel holds is compared by the leak check.


def _files(host: Host) -> list[Path]:
    return list(Path(host.settings.run_dir).rglob("*"))
