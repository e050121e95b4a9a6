"""A host whose launcher, blanks and agent halt at any step of a start, to be killed there."""

import asyncio
import functools
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from containerlib import cgroups, firewall, process
from containerlib.network import Addresses
from dispatcher.compute.protocol import Answer, Live, Refused
from dispatcher.domain import Policy
from tests.plugins.compute import Host, fetch, until
from tests.walk import launcher
from tests.walk.agent import run_watched
from tests.walk.steps import AGENT, BLANK, LAUNCHER, Steps

APP = "blog"


class Walk:
    """One app is woken again and again; each time somebody dies at another step."""

    def __init__(self, host: Host) -> None:
        self.host = host
        host.settings = msgspec.structs.replace(host.settings, blanks=1)
        self.file = str(host.directory / "steps")
        self.steps = Steps(self.file)
        host.launch = (launcher.__file__, self.file)
        host.run_agent = functools.partial(run_watched, self.file)

    async def begin(self) -> None:
        (self.host.content / "index.html").write_text("hello")
        self.host.kill_launcher()
        self.host.kill_agent()
        await self.host.start()
        # Not to go out, and so in a set of the firewall: that is to be left empty, too.
        await self.host.app(APP, policy=Policy(start_timeout_s=20), outbound=False)
        await self.host.known(APP)
        await self._live()
        self.steps.record()
        await self._use_up_reserve()
        await self._live()
        self.steps.rest()

    def names(self, role: str) -> list[str]:
        return self.steps.names(role)

    async def die(self, victim: str, role: str, step: str) -> bool:
        """`victim` is killed while `role` is at `step`. The request that waits is answered, and nothing half-made is left. False:
        nobody came to that step."""
        self.steps.arm(role, step)
        await self._use_up_reserve()
        life = asyncio.get_running_loop().create_task(self._live(may_die=victim == BLANK))
        try:
            await until(lambda: self.steps.halted or life.done(), within_s=20)
            if not self.steps.halted:
                await life
                return False
            self._kill(victim)
        finally:
            self.steps.go_on()
        if victim == LAUNCHER:
            self.host.start_launcher()
        if victim == AGENT:
            life.cancel()  # it asks on a connection that has ended
            await asyncio.wait([life])
            await self.host.detach()
            await self.host.start_agent()
            life = asyncio.get_running_loop().create_task(self._live())  # a proxy that is connected again asks again
        await life
        return True

    async def _live(self, *, may_die: bool = False) -> None:
        """`may_die`: what is killed becomes the container, and from when its program was spawned it is the site that died."""
        answer = await self.host.ensure(APP)
        if isinstance(answer, Refused) and may_die:
            assert "killed by SIGKILL" in answer.message, answer
            live = await self.host.until_answer(APP)
        else:
            assert isinstance(answer, Answer), answer
            live = answer.live
        try:
            assert (await fetch(live.address)).endswith(b"hello")
            await until(lambda: self._has_init(live))
        except (AssertionError, OSError):
            if not may_die:
                raise
        await (await self.host.proxy()).stop(APP, now=True)
        await self.until_at_rest()

    def _has_init(self, live: Live) -> bool:
        """Which is what a blank executes last."""
        group = cgroups.find(self.host.settings.cgroup).group(str(self.host.slot(live)))
        return not set(self._launched()) & set(group.processes())

    def _kill(self, victim: str) -> None:
        match victim:
            case "launcher":
                self.host.kill_launcher()
            case "blank":
                os.kill(self.blanks()[0], signal.SIGKILL)
            case "agent":
                self.host.kill_agent()

    async def _use_up_reserve(self) -> None:
        """So that the next request waits for a blank that is made from the beginning."""
        for pid in self.blanks():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await until(lambda: not self.blanks())

    def blanks(self) -> list[int]:
        """The oldest first. Whoever was forked by a launcher of ours bears its command line until it executes."""
        mine = self.host.launcher.pid if self.host.launcher else 0
        return sorted((pid for pid in self._launched() if pid != mine), key=lambda pid: process.start_time(pid) or 0)

    def _launched(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                if self.host.settings.launcher_socket.encode() in (path / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(path.name))
        return found

    async def until_at_rest(self) -> None:
        """One blank in reserve, and of each thing what belongs to one blank."""
        expected = {"blanks": 1, "processes": 1, "cgroups": 1, "files": 1, "links": 1, "mounts": 0, "elements": 0}
        try:
            await until(lambda: self.there() == expected, within_s=12)
        except AssertionError:
            pytest.fail(f"left behind: {self.there()}")

    def there(self) -> dict[str, int]:
        tree = cgroups.find(self.host.settings.cgroup)
        groups = [name for name in tree.names() if name.isdigit()]
        addresses = Addresses.parse(self.host.settings.network)
        links = [path.name for path in Path("/sys/class/net").iterdir()]
        mountinfo = Path("/proc/self/mountinfo").read_text().splitlines()
        table = firewall.table_name(addresses.network)
        offline = subprocess.check_output(["nft", "list", "set", "inet", table, firewall.OFFLINE], text=True)
        return {
            "blanks": len(self.blanks()),
            "processes": sum(len(tree.group(name).processes()) for name in groups),
            "cgroups": len(groups),
            "files": len(list(Path(self.host.settings.run_dir, "slots").iterdir())),
            "links": sum(addresses.slot_of_link(name) is not None for name in links),
            "mounts": sum(str(self.host.directory) in line.split(" ")[4] for line in mountinfo),
            "elements": offline.count("elements"),
        }


@pytest.fixture
async def walk(host: Host) -> AsyncIterator[Walk]:
    walk = Walk(host)
    try:
        await walk.begin()
        yield walk
    finally:
        walk.steps.close()
