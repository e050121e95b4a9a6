"""kill -9 of the runner of a container by itself at the steps of its container's life, from its first file to the last that it
removes: the next one, or whoever clears away, leaves nothing of it.

Each 12th step by default; FASTCONTAINER_LONG=1: each.
"""

import ipaddress
import multiprocessing
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from containerlib import cgroups, firewall
from containerlib.standalone.places import Taken
from containerlib.standalone.run import Job, clear_away
from tests.containerlib.conftest import Box, until
from tests.walk.runner import run_watched
from tests.walk.steps import RUNNER, Steps

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

BODY = """    c.command("busybox", "httpd", "-f", "-p", "80", "-h", "/srv")
    c.mount(DIRECTORY, "/srv", readonly=True)
    c.tmpfs("/cache", size="1M")
    c.network.outbound = False
    c.cgroup.memory = "64M"
    c.readiness(port=80)
    c.lifespan("0.1s")
    c.stop(grace=0)
    @c.hook(Phase.AFTER_START)
    def hello(container): ...
"""
# Of each part of a life.
EXPECTED = (
    "hold: mkdir",
    "write_whole: open",
    "_start_launcher: fork_exec",
    "Tree.create: mkdir",
    "_make_fifos: mkfifo",
    "send_identity: send",
    "Group.remove: rmdir",
    "Place.remove: unlink",
    "Place.remove: rmdir",
)
STRIDE = 1 if os.environ.get("FASTCONTAINER_LONG") else 12
_processes = multiprocessing.get_context("forkserver")


class Walk:
    def __init__(self, box: Box) -> None:
        self.box = box
        self.steps = Steps(str(box.directory / "steps"))
        self.log = box.directory / "runner.log"
        (box.directory / "data").mkdir()
        file = box.define(BODY.replace("DIRECTORY", repr(str(box.directory / "data"))))
        self.job = Job("web", (file,), box.settings)
        self.images = box.directory / "state/images"  # of its own: others would wait for the one who is halted
        self.images.unlink()

    def start(self) -> BaseProcess:
        runner = _processes.Process(target=run_watched, args=(str(self.box.directory / "steps"), self.job, self.log))
        runner.start()
        return runner

    def live(self) -> None:
        """Undisturbed."""
        runner = self.start()
        runner.join(30)
        assert runner.exitcode == 0, self.log.read_text()
        runner.close()

    def die(self, step: str) -> bool:
        """False: it did not come to that step."""
        if "bootstrap/usr.py" in step:
            shutil.rmtree(self.images)
        self.steps.arm(RUNNER, step)
        runner = self.start()
        try:
            until(lambda: self.steps.halted or not runner.is_alive(), within_s=30)
            halted = self.steps.halted
        finally:
            assert runner.pid is not None
            with suppress(ProcessLookupError):
                os.kill(runner.pid, signal.SIGKILL)
            runner.join()
            runner.close()
            self.steps.rest()
        return halted

    def left(self) -> dict[str, list[str]]:
        """Of everything that a container consists of, what there is."""
        name = f"{self.box.settings.cgroup}-web"
        bases = {base.parent for base in cgroups.find(name).bases.values()}
        subnet = self.box.settings.network.rpartition(".")[0]
        table = firewall.table_name(ipaddress.IPv4Network(self.box.settings.network))
        tables = subprocess.check_output(["nft", "list", "tables"], text=True).splitlines()
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        routes = subprocess.check_output(["ip", "-o", "route"], text=True).splitlines()
        traces = Path("/sys/kernel/tracing/instances").glob("fastcontainer-web-*")
        found = {
            "directories": self.box.names(),
            "groups": [str(base / name) for base in bases if (base / name).exists()],
            "processes": [words for pid in _pids() if str(self.box.settings.run_dir) in (words := _words(pid))],
            "routes": [line for line in routes if subnet in line],
            "mounts": [line for line in mounts if str(self.box.settings.run_dir) in line],
            "tables": [line for line in tables if table in line],
            "traces": [path.name for path in traces if subnet in path.name],
        }
        return {what: each for what, each in found.items() if each}


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture
def walk(box: Box, _agents: Path) -> Iterator[Walk]:
    walk = Walk(box)
    try:
        yield walk
    finally:
        walk.steps.close()


def _is_cleared(walk: Walk) -> bool:
    try:
        clear_away(walk.box.settings, "web")
    except Taken:  # a helper of its own may hold the lock for a moment longer
        return False
    return True


def test_killed_at_each_step(walk: Walk) -> None:
    walk.steps.record()
    walk.live()
    walk.steps.rest()
    names = walk.steps.names(RUNNER)
    assert [part for part in EXPECTED if not any(part in name for name in names)] == []
    assert not walk.left()
    chosen = [name for number, name in enumerate(names) if number % STRIDE == 0]
    missed, left = [], {}
    for name in chosen:
        if not walk.die(name):
            missed.append(name)
        until(lambda: _is_cleared(walk), within_s=10, why=name)
        with suppress(AssertionError):
            until(lambda: not walk.left(), within_s=3)
        if there := walk.left():
            left[name] = there
            _clean(walk)
    assert left == {}
    print(f"{len(chosen)} of {len(names)} steps, missed: {missed}")
    assert len(missed) <= len(chosen) // 10, missed
    walk.live()
    assert not walk.left()


def _clean(walk: Walk) -> None:
    for pid in _pids():
        if str(walk.box.settings.run_dir) in _words(pid):
            os.kill(pid, signal.SIGKILL)
