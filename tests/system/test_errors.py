"""What a host lacks or runs out of: what can, falls back and works; what cannot, says what to do, and leaves nothing half-made."""

import functools
import itertools
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import msgspec
import pytest

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.store import Delete, Put
from dispatcher.coreapi.uids import bases
from dispatcher.domain import AppSpec, Policy
from dispatcher.problems import Problem
from tests.fakes import lacking
from tests.plugins.compute import HTTPD, Host, fetch, until

pytestmark = pytest.mark.system
SHORT = Policy(start_timeout_s=0.5)
OPEN_TREE, MOVE_MOUNT, OPENAT2, MOUNT_SETATTR = 428, 429, 437, 442
UNSHARE = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
KEYCTL = {"x86_64": 250, "aarch64": 219}[os.uname().machine]


async def restart(host: Host, **settings: object) -> None:
    """Launcher and agent, after the test has changed them."""
    host.settings = msgspec.structs.replace(host.settings, **settings)
    host.kill_agent()
    host.kill_launcher()
    await host.start()


async def serves(host: Host, app: str, policy: Policy = SHORT) -> bool:
    (host.content / "index.html").write_text("hello")
    await host.app(app, policy=policy)
    return (await fetch((await host.until_answer(app)).address)).endswith(b"hello")


@pytest.mark.parametrize(
    ("number", "name", "since"),
    [(OPEN_TREE, "open_tree", "5.2"), (OPENAT2, "openat2", "5.6"), (MOUNT_SETATTR, "mount_setattr", "5.12")],
)
async def test_a_kernel_without_a_call_that_a_mount_needs_is_named(
    host: Host, number: int, name: str, since: str
) -> None:
    host.run_agent = functools.partial(lacking.run_agent_without, number)
    await restart(host)
    await host.app("blog")
    refused = await host.refused("blog")
    assert (
        f"kernel {os.uname().release} has no {name}, or forbids it; Linux {since} or later is needed" in refused.message
    )
    assert (await host.event("blog", "failed")).message in refused.message
    await host.app("bare", *("busybox", "httpd", "-f", "-p", "80", "-h", "/tmp"), mounts=())
    await host.wake("bare")


async def test_a_kernel_without_a_call_inside_is_named(
    new_host: Callable[..., AbstractAsyncContextManager[Host]],
) -> None:
    async with new_host(lacking.__file__, str(MOVE_MOUNT)) as host:
        await host.app("blog")
        assert "has no move_mount, or forbids it; Linux 5.2 or later" in (await host.refused("blog")).message


async def test_without_user_namespaces_it_keeps_to_plain_ids(host: Host) -> None:
    host.run_agent = functools.partial(lacking.run_agent_without, UNSHARE)
    await restart(host)
    assert await serves(host, "blog")
    assert "no user namespaces, containers keep to plain user ids" in host.log.read_text()
    (pid, *_) = await host.processes("blog")
    assert Path(f"/proc/{pid}/ns/user").samefile("/proc/self/ns/user")  # noqa: ASYNC240


async def test_without_keyrings_it_goes_on(new_host: Callable[..., AbstractAsyncContextManager[Host]]) -> None:
    async with new_host(lacking.__file__, str(KEYCTL)) as host:
        assert await serves(host, "blog")


async def test_when_all_addresses_are_taken_it_says_so_until_one_is_free(host: Host) -> None:
    address, _, _ = host.settings.network.partition("/")
    await restart(host, network=f"{address}/28", blanks=1)
    for number in range(13):
        assert await serves(host, f"site{number}")
    await host.app("late", policy=SHORT)
    refused = await host.refused("late")
    assert f"all 13 addresses of {address}/28 are in use; give this host a larger network" in refused.message
    await (await host.proxy()).stop("site3")
    await host.until_answer("late")


async def test_a_site_without_a_launcher_is_told_so(host: Host) -> None:
    await restart(host, blanks=0)
    host.kill_launcher()
    await host.app("blog", policy=SHORT)
    assert f"no launcher listens at {host.settings.launcher_socket}; start it" in (await host.refused("blog")).message


@contextmanager
def small_disk(path: str, options: str) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", path], check=True)
    try:
        yield Path(path)
    finally:
        subprocess.run(["umount", "-l", path], check=True)


async def test_a_run_directory_without_room_for_the_journal_bars_nothing(host: Host) -> None:
    """The journal is told in the log; the site runs, stops and leaves nothing."""
    host.kill_agent()
    host.kill_launcher()
    with small_disk(host.settings.run_dir, "size=64k,mode=755") as disk:
        await host.start()
        fill(disk / "filler")
        assert await serves(host, "blog", Policy())
        assert "No space left on device" in host.log.read_text()
        await (await host.proxy()).stop("blog")
        (disk / "filler").unlink()
        assert (await host.wake("blog")).generation == 2
        await end(host)


async def test_a_run_directory_without_room_for_pipes_is_told_and_cured(host: Host) -> None:
    host.kill_agent()
    host.kill_launcher()
    with small_disk(host.settings.run_dir, "nr_inodes=40,mode=755") as disk:
        host.settings = msgspec.structs.replace(host.settings, blanks=1)
        await host.start()
        await host.app("blog", policy=SHORT)
        await host.known("blog")
        await use_up_reserve(host, disk)
        refused = await host.refused("blog")
        assert "No space left on device" in refused.message and "slots" in refused.message
        for path in disk.glob("filler*"):
            path.unlink()
        await host.until_answer("blog")
        await end(host)


async def use_up_reserve(host: Host, disk: Path) -> None:
    """All inodes are taken, and the blank that was made before is woken for somebody else."""
    await until(lambda: any((disk / "slots").iterdir()))
    try:
        for number in range(100):
            (disk / f"filler{number}").touch()
    except OSError:
        pass
    await host.app("other")
    await host.wake("other")


async def test_a_state_directory_without_room_leaves_sites_served(host: Host) -> None:
    """The logs lie there, too, as they do where a host has one disk. What an agent needs to begin anew it says, with the remedy."""
    host.kill_agent()
    host.kill_launcher()
    (host.directory / "state/images").unlink()
    with small_disk(host.settings.state_dir, "size=4m,mode=755") as disk:
        host.settings = msgspec.structs.replace(host.settings, log_dir=str(disk / "log"), blanks=1)
        await host.start()
        talking = ("sh", "-c", "for n in 1 2 3 4; do echo $n; done; exec busybox httpd -f -p 80 -h /srv")
        (host.content / "index.html").write_text("hello")
        await host.app("blog", *talking)
        live = await host.wake("blog")
        fill(disk / "filler")
        assert (await fetch(live.address)).endswith(b"hello")
        await (await host.proxy()).stop("blog")
        live = await host.wake("blog")  # the /etc is there
        assert (await fetch(live.address)).endswith(b"hello")
        await until(lambda: "No space left on device" in host.log.read_text())

        await host.detach()
        host.kill_agent()
        shutil.rmtree(disk / "images/etc")
        fill(disk / "filler")
        await host.start_agent()
        assert (await host.wake("blog")).address == live.address
        assert (await fetch(live.address)).endswith(b"hello")
        await host.app("late", policy=SHORT)
        refused = await host.refused("late")
        assert f"make room on its file system, then try again: '{disk}/images/etc'" in refused.message
        await until(
            lambda: not any((disk / "images/etc").glob(".building-*"))
        )  # nothing half-made, between two attempts
        (disk / "filler").unlink()
        await host.until_answer("late")
        await end(host)


async def test_an_app_for_which_no_user_ids_are_left_is_told_until_there_are(host: Host) -> None:
    """Every range that it could have is another's."""
    await host.app("owner")
    claims = [Put(keys.uid_key(base), b"owner") for base in bases("late")]
    for some in itertools.batched(claims, 100):
        await host.store.commit([], some)
    with pytest.raises(Problem, match="the 256 ranges of user ids that app 'late' could have are all in use"):
        await host.app("late")
    await host.store.commit([], [Put(keys.spec_key("late"), codec.encode(AppSpec(HTTPD)))])  # by hand: nobody asks
    refused = await host.refused("late")
    assert "the 256 ranges of user ids that app 'late' could have are all in use" in refused.message
    assert "the 256 ranges" in (await host.event("late", "refused")).message
    await host.wake("owner")
    await host.store.commit([], [Put(keys.spec_key("quick"), codec.encode(AppSpec(HTTPD)))])
    await host.wake("quick")  # asked for while it is given its own
    await host.store.commit([], [Delete(claims[7].key)])
    await host.until_answer("late")
    for some in itertools.batched(claims, 100):
        await host.store.commit([], [Delete(claim.key) for claim in some])


@pytest.mark.parametrize(
    ("who", "words"), [("launcher", "the launcher cannot make a process"), ("agent", "Too many open files")]
)
async def test_one_of_them_without_descriptors_says_so_and_recovers(host: Host, who: str, words: str) -> None:
    await restart(host, blanks=0)
    await host.app("blog", policy=SHORT)
    await host.known("blog")
    process = getattr(host, who)
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (open_files(process.pid), before[1]))
    assert words in (await host.refused("blog")).message
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
    await host.until_answer("blog")
    assert open_files(process.pid)  # it is the same one


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass


async def end(host: Host) -> None:
    """While its run directory is there; what `close` does then finds another one, which is empty."""
    await host.detach()
    host.kill_agent()
    host.kill_launcher()
    await host.clean()
