"""Sites that do not start, or do not last: a clear reason, a rest, and neighbours that notice nothing."""

import asyncio
import time

import pytest

from containerlib.process import exit_status_is_kept
from dispatcher.compute.protocol import Answer
from dispatcher.domain import Mount, Policy, Status
from dispatcher.problems import Code
from tests.plugins.compute import PATIENCE, Host, fetch, python, until

pytestmark = pytest.mark.system

QUICK_S = 0.7 * PATIENCE
QUICK = Policy(start_timeout_s=QUICK_S)
# By the kernel's word, or as an init tells it.
CRASHED = "it was killed by SIGSEGV" if exit_status_is_kept() else "it exited with code 139"


@pytest.mark.parametrize(
    ("command", "policy", "reason"),
    [
        (("/no/such/program",), Policy(), "command '/no/such/program' is not an executable file in the container"),
        (("no-such-program",), Policy(), "command 'no-such-program' is not in the container's PATH"),
        (("/etc/hosts",), Policy(), "is not an executable file"),
        (("/usr",), Policy(), "is not an executable file"),
        (("true",), Policy(), "it exited with code 0"),
        (("sh", "-c", "echo broken >&2; exit 3"), Policy(), "it exited with code 3; its last words: broken"),
        (("sh", "-c", "kill -SEGV $$"), Policy(), CRASHED),
        (("sleep", "60"), QUICK, f"it did not listen on port 80 within {QUICK_S:g} s"),
        (python("serve(80, '127.0.0.1')"), QUICK, "it listens on port 80 of 127.0.0.1 only; it must listen on 0.0.0.0"),
        (python("serve(8000)"), QUICK, "it listens on port 8000, not on port 80"),
    ],
    ids=["absent", "not in PATH", "no program", "directory", "exits", "exits 3", "crashes", "silent", "loopback", "port"],
)  # fmt: skip
async def test_a_site_that_does_not_start_says_why_and_rests(
    host: Host, command: tuple[str, ...], policy: Policy, reason: str
) -> None:
    await host.app("blog", *command, policy=policy)
    began = time.monotonic()
    refused = await host.refused("blog")
    assert time.monotonic() - began < 3 * PATIENCE
    assert refused.code is Code.START_FAILED
    assert reason in refused.message
    assert reason in (await host.event("blog", "failed")).message
    again = await host.refused("blog")
    assert again.code is Code.BACKING_OFF
    assert reason in again.message
    assert again.retry_after_s is not None and 0 < again.retry_after_s <= 1
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.FAILED and reason in rows["1"].reason)
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.REGISTERED)


async def test_a_mount_whose_source_is_missing_is_named(host: Host) -> None:
    await host.app("blog", mounts=(Mount("/no/such/dir", "/srv"),))
    assert "mount source '/no/such/dir' does not exist on this host" in (await host.refused("blog")).message


async def test_a_working_directory_that_is_missing_is_named(host: Host) -> None:
    await host.app("blog", workdir="/no/such/dir")
    assert "/no/such/dir" in (await host.refused("blog")).message


async def test_a_health_path_that_fails_is_named(host: Host) -> None:
    program = """
server = socket.create_server(("0.0.0.0", 80))
while True:
    connection = server.accept()[0]
    connection.recv(9999); connection.sendall(b"HTTP/1.1 500 No\\r\\n\\r\\n"); connection.close()
"""
    await host.app("blog", *python(program), policy=Policy(health_path="/up", start_timeout_s=QUICK_S))
    refused = await host.refused("blog")
    assert f"it listens, but /up did not answer below 500 within {QUICK_S:g} s" in refused.message


async def test_one_that_listens_and_then_dies_is_started_again_at_once_the_first_time_only(host: Host) -> None:
    await host.app("blog", *python("threading.Timer(0.3, lambda: os._exit(7)).start(); serve()"))
    await host.wake("blog")
    proxy = await host.proxy()
    await proxy.until_status("blog", "1", None)
    assert (await host.wake("blog")).generation == 2
    await proxy.until_status("blog", "1", None)
    refused = await host.refused("blog")
    assert refused.code is Code.BACKING_OFF
    assert "it exited with code 7" in refused.message


async def test_a_new_definition_is_tried_at_once(host: Host) -> None:
    await host.app("blog", "false", mounts=())
    await host.refused("blog")
    assert (await host.refused("blog")).code is Code.BACKING_OFF
    await host.edit("blog", command=("busybox", "httpd", "-f", "-p", "80"))
    await host.until_answer("blog")


async def test_one_that_eats_its_memory_is_killed_by_the_kernel_and_its_neighbour_notices_nothing(host: Host) -> None:
    (host.content / "index.html").write_text("hello")
    await host.app("good")
    await host.app("bad", *python("x = []\nwhile True: x.append(bytearray(1 << 20))"), words={"memory": "32M"})
    good = await host.wake("good")
    refused = await host.refused("bad")
    assert "it used more memory than its limit 32M, and the kernel killed it" in refused.message
    assert (await fetch(good.address)).endswith(b"hello")


async def test_one_that_forks_without_end_is_bounded_and_its_neighbour_notices_nothing(host: Host) -> None:
    (host.content / "index.html").write_text("hello")
    await host.app("good")
    bomb = """
threading.Thread(target=serve).start()
time.sleep(0.3)
while True:
    try: os.fork()
    except OSError: time.sleep(0.01)
"""
    await host.app("bad", *python(bomb), pids=50)
    good = await host.wake("good")
    bad = await host.wake("bad")
    await until(lambda: int(host.cgroup(bad, "pids", "pids.current")) >= 50)
    began = time.monotonic()
    assert (await fetch(good.address)).endswith(b"hello")
    assert time.monotonic() - began < 1
    await (await host.proxy()).stop("bad", now=True)


async def test_a_fork_bomb_that_dies_of_its_bound_says_so(host: Host) -> None:
    await host.app("bad", *python("for _ in range(100): os.fork() or time.sleep(60)"), pids=20)
    assert "after its limit of 20 processes was reached" in (await host.refused("bad")).message


async def test_bad_sites_do_not_hold_up_a_good_one(host: Host) -> None:
    (host.content / "index.html").write_text("hello")
    for number in range(6):
        await host.app(f"bad{number}", "sleep", "60", policy=QUICK)
    await host.app("good")
    await host.known("good")
    bad = [asyncio.get_running_loop().create_task(host.refused(f"bad{number}")) for number in range(6)]
    await asyncio.sleep(0.1)
    answer = await host.ensure("good")
    assert isinstance(answer, Answer)
    assert sum(not task.done() for task in bad) == 6
    for task in bad:
        await task


@pytest.mark.parametrize("key", ["memory", "cpu", "containers", "switch", "spec"])
async def test_a_bad_word_is_refused_with_an_event_and_changes_nothing(host: Host, key: str) -> None:
    await host.app("blog", words={"memory": "64M", "cpu": "50%"})
    live = await host.wake("blog")
    await host.word_raw("blog", key, "lots")
    event = await host.event("blog", "refused")
    assert (event.key, event.value) == (f"/fastcontainer/apps/blog/{key}", "lots")
    assert event.message.startswith(f"refused /fastcontainer/apps/blog/{key} = 'lots': ")
    assert host.cpu_limit(live) == "50000"
    assert host.memory_limit(live) == str(64 << 20)
    assert await host.wake("blog") == live
