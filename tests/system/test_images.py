"""Apps on images: through the agent, on the real kernel."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from containerlib import images, process
from containerlib.bootstrap.directory import Directory
from containerlib.images import Config, Image, Store
from dispatcher.compute.protocol import Refused
from dispatcher.domain import Mount, Policy, Start, Status
from dispatcher.problems import Code
from tests.plugins.compute import Host, fetch, until
from tests.plugins.images import processes

pytestmark = pytest.mark.system

SERVE = "mkdir -p /tmp/www; cat /mark > /tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www"
FILLS = "dd if=/dev/zero of=/tmp/big bs=1M count=400 2>/dev/null; stat -c %s /tmp/big; exec httpd -f -p 80"


def store_of(host: Host) -> Store:
    return Store(Path(host.settings.image_dir))


def build(host: Host, mark: str, config: Config | None = None) -> Image:
    """A version of `small` that can be told from others."""
    tree = host.directory / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("bin", "etc", "srv"):
        (tree / name).mkdir(parents=True)
    tree.chmod(0o755)
    shutil.copy("/usr/bin/busybox", tree / "bin/busybox")
    for name in ("sh", "cat", "mkdir", "httpd", "id", "stat", "dd", "touch"):
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:www:/srv:/bin/sh\n")
    (tree / "mark").write_text(mark)
    image = images.build(store_of(host), "small", Directory(tree))
    if config is not None:
        (image.path / "manifest.json").write_bytes(replace(image.manifest, config=config).to_bytes())
    return image


async def mark_of(host: Host, app: str = "blog") -> bytes:
    return (await fetch((await host.wake(app)).address)).rpartition(b"\r\n\r\n")[2]


async def test_an_app_runs_on_its_image_and_its_row_says_on_which(host: Host) -> None:
    image = build(host, "one")
    (host.content / "mine").write_text("of the site\n")
    await host.app("blog", "sh", "-c", f"id -u; cat /srv/mine; {SERVE}", image="small")
    assert await mark_of(host) == b"one"
    await host.until_line("blog", "out 1000")
    await host.until_line("blog", "out of the site")
    await host.until_rows("blog", lambda rows: rows["1"].image == f"small@{image.version}")
    assert "image=" in (await host.event("blog", "ready")).message
    assert images.verify(image) == []


async def test_a_second_life_waits_for_no_disk(host: Host) -> None:
    build(host, "one")
    await host.app("blog", "sh", "-c", SERVE, image="small", policy=Policy(idle_s=0.3))
    await host.known("blog")
    answer = await host.ensure("blog")
    assert not isinstance(answer, Refused)
    assert answer.phases["image"] < answer.phases["gate"]


async def test_what_an_image_says_itself_counts_where_the_app_says_nothing(host: Host) -> None:
    build(
        host, "one", Config(command=("sh", "-c", f"id -un; {SERVE}"), env={"MOOD": "good"}, user="www", workdir="/srv")
    )
    await host.app("blog", "sh", "-c", f"echo $MOOD $PWD; id -u; {SERVE}", image="small")
    assert await mark_of(host) == b"one"
    await host.until_line("blog", "out good /srv")
    await host.until_line("blog", "out 33")
    await host.edit("blog", command=())
    await host.until_rows("blog", lambda rows: "2" in rows and rows["2"].status is Status.RUNNING)
    await until(lambda: "out www" in host.lines("blog", "2"))


async def test_an_image_that_is_not_there_fails_at_once_and_says_what_to_do(host: Host) -> None:
    await host.app("blog", "sh", "-c", SERVE, image="small")
    answer = await host.ensure("blog")
    assert isinstance(answer, Refused) and answer.code is Code.START_FAILED
    assert "image 'small' is not built on this host" in answer.message and "container create" in answer.message
    assert "container create" in (await host.event("blog", "failed")).message
    build(host, "one")
    live = await host.until_answer("blog")  # when it has rested
    assert (await fetch(live.address)).endswith(b"one")


async def test_a_new_version_replaces_what_runs_successor_first_and_the_old_one_goes(host: Host) -> None:
    old = build(host, "one")
    await host.app("blog", "sh", "-c", SERVE, image="small")
    assert await mark_of(host) == b"one"
    new = build(host, "two")
    await host.until_rows("blog", lambda rows: rows.get("2") is not None and rows["2"].status is Status.RUNNING)
    assert f"small@{new.version} was built" in (await host.event("blog", "replaced")).message
    await host.until_rows("blog", lambda rows: set(rows) == {"2"})
    assert await mark_of(host) == b"two"
    await until(lambda: not old.path.exists(), within_s=12)
    assert new.path.exists()


async def test_a_version_that_does_not_start_leaves_the_old_one_running(host: Host) -> None:
    old = build(host, "one")
    await host.app("blog", "sh", "-c", SERVE, image="small")
    assert await mark_of(host) == b"one"
    new = build(host, "two")
    (new.root / "bin/sh").unlink()
    failed = await host.event("blog", "failed", within_s=15)
    assert "not in the container's PATH" in failed.message
    assert await mark_of(host) == b"one"
    assert old.path.exists() and images.verify(old) == []


async def test_a_version_in_use_is_not_removed_running_or_frozen(host: Host) -> None:
    old = build(host, "one")
    await host.app("blog", "sh", "-c", SERVE, image="small", policy=Policy(idle_s=0.5, start=Start.FROZEN))
    await host.wake("blog")
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.FROZEN)
    host.kill_agent()
    await host.start_agent()  # which takes hold of it again
    build(host, "two")
    assert store_of(host).remove_unused("small", keep=1) == []
    assert old.path.exists()


async def test_a_version_stays_under_what_runs_on_it_while_the_agent_is_dead(host: Host) -> None:
    old = build(host, "one")
    await host.app("blog", "sh", "-c", SERVE, image="small")
    live = await host.wake("blog")
    (init, *_) = await host.processes("blog")
    await host.detach()
    host.kill_agent()
    build(host, "two")
    assert store_of(host).remove_unused("small", keep=1) == []
    assert (await fetch(live.address)).endswith(b"one") and images.verify(old) == []
    os.kill(init, signal.SIGKILL)
    await until(lambda: process.start_time(init) is None)
    assert store_of(host).remove_unused("small", keep=1) == [old.version]
    await host.start_agent()


async def test_what_an_app_writes_is_limited(host: Host) -> None:
    build(host, "one")
    await host.app("blog", "sh", "-c", FILLS, image="small")
    await host.wake("blog")
    await until(lambda: host.lines("blog"))
    (line,) = host.lines("blog")
    assert 200 << 20 < int(line.removeprefix("out ")) <= 256 << 20


async def test_a_helper_that_was_killed_is_replaced_and_starts_go_on(host: Host) -> None:
    build(host, "one")
    await host.app("blog", "sh", "-c", SERVE, image="small")
    await host.app("shop", "sh", "-c", SERVE, image="small")
    await host.known("shop")
    assert await mark_of(host) == b"one"
    (helper,) = helpers(host)
    os.kill(helper, signal.SIGKILL)
    assert await mark_of(host, "shop") == b"one"
    await until(lambda: helpers(host) not in ([], [helper]))


async def test_a_mount_that_an_image_leads_elsewhere_is_refused(host: Host) -> None:
    image = build(host, "one")
    (image.root / "away").symlink_to("/proc")
    mounts = (Mount(str(host.content), "/away/x"),)
    await host.app("blog", "sh", "-c", SERVE, image="small", mounts=mounts)
    answer = await host.ensure("blog")
    assert isinstance(answer, Refused) and "which the container keeps" in answer.message


def helpers(host: Host) -> list[int]:
    """Of this host's agent."""
    assert host.agent is not None
    children = Path(f"/proc/{host.agent.pid}/task/{host.agent.pid}/children").read_text().split()
    ours = {int(word) for word in children}
    return [pid for pid in processes(WORKER) if pid in ours]


WORKER = str(Path(images.__file__).parents[1] / "standalone/worker.py")
