"""What the bench asks of a peer: start, sleep, first, warm, memory, stop. Most of it is the same for all and is here.

A peer says what it starts, which processes run a site's code, and how somebody falls asleep where it has another way than to wait.
"""

import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import msgspec

from bench.coldstart.theirs import HOST
from bench.coldstart.visit import Address, visit
from bench.footprint import available_kb
from bench.peers import loading
from bench.peers.family import Family, family
from bench.peers.isolation import Isolation, facts, isolation
from bench.peers.loading import Load
from bench.peers.place import Page, Place, Site

START_S = 20.0
SLEEP_S = 30.0  # beyond its idle time
LOOK_EVERY_S = 0.02
TCP_LISTEN = "0A"
QUIET_S, QUIET_SHARE, QUIET_S_MAX = 0.03, 0.05, 0.4


class Memory(msgspec.Struct, frozen=True):
    """Of all sites together and what serves them. `pss_mb` counts a page that N processes share as 1/N of it, for each; kernel
    memory is not in it. `available_mb` is what MemAvailable fell by since before the peer's start: all is in it, and whatever else
    the machine did meanwhile."""

    pss_mb: float
    available_mb: float
    processes: int


class Peer(ABC):
    name: ClassVar[str]
    about: ClassVar[str]  # what was measured, in a line
    needs: ClassVar[tuple[str, ...]]  # absolute paths without which it cannot run
    package: ClassVar[str]  # that brings them
    worker: ClassVar[str]  # beginning of the name of the processes that run a site's code
    closes: ClassVar[bool] = False  # it ends answers by closing

    def __init__(self, place: Place, family: Family) -> None:
        self.place = place
        self.family = family
        self._available_kb = 0

    # --- what differs

    @classmethod
    def why_not(cls) -> str:
        """Empty if it may be tried on this machine."""
        missing = [path for path in (*cls.needs, "/usr/bin/wrk") if not shutil.which(path) and not Path(path).exists()]
        return f"{', '.join(missing)} not installed (package {cls.package})" if missing else ""

    @abstractmethod
    def _start(self) -> None:
        """Whatever serves all sites, all of them asleep."""

    def awake(self) -> int:
        """So many sites have a process: they differ by their user, or by their PID namespace."""
        return len({whose(pid) for pid in self.workers()} - {None})

    def sleep(self) -> None:
        """Returns when all sites are asleep, which they fall by themselves."""
        self.wait_until(lambda: self.awake() == 0, self.place.idle_s + SLEEP_S, "all sites asleep")

    def wake(self, site: Site) -> None:
        """What a visit does not do."""
        return  # most are woken by it

    def address(self, site: Site) -> Address:
        return HOST, self.place.port

    def stop(self) -> None:
        """Nothing of it is left."""
        self.family.end()

    # --- what is the same for all

    def start(self) -> None:
        self._available_kb = available_kb()
        self._start()
        for site in (self.place.sites[0], self.place.sites[-1]):
            self.wait_until(lambda site=site: is_listening(self.address(site)[1]), START_S, "a listener")  # type: ignore[misc]

    def first(self, site: Site, page: Page) -> float:
        """Milliseconds from a visitor's new connection to the first byte, the site being asleep."""
        began = time.perf_counter()
        self.wake(site)
        return (visit(self.address(site), site.domain, site.marker.encode(), page.path).at - began) * 1000

    def warm(self, site: Site, page: Page, seconds: float, before_s: float) -> Load:
        """The site is woken before, and `before_s` of the same load let it have its processes; neither is counted."""
        self.first(site, page)
        host, port = self.address(site)
        url = f"http://{host}:{port}{page.path}"
        loading.run(url, site.domain, before_s)
        return loading.load(url, site.domain, seconds, closes=self.closes)

    def wake_all(self) -> int:
        """So many are awake at once when it returns: whoever was woken is visited again before he falls asleep."""
        visited: dict[Site, float] = {}
        for site in self.place.sites:
            due = [each for each, at in visited.items() if time.monotonic() - at > self.place.idle_s / 2]
            for each in (*due, site):
                self.first(each, Page.DYNAMIC)
                visited[each] = time.monotonic()
        return self.awake()

    def memory(self) -> Memory:
        """As it is now."""
        pids = self.family.pids()
        return Memory(
            round(sum(pss_kb(pid) for pid in pids) / 1024, 1),
            round((self._available_kb - available_kb()) / 1024, 1),
            len(pids),
        )

    def workers(self) -> list[int]:
        return [pid for pid in self.family.pids() if name_of(pid).startswith(self.worker)]

    def isolation(self) -> Isolation:
        """Of one site's process beside another's, the two that came last. Sites that nothing tells apart have no second one."""
        for site in self.place.sites[-2:]:
            self.first(site, Page.DYNAMIC)
        by_site = {
            whose(pid): pid for pid in self.workers()
        }  # the youngest of each: a master keeps more than its workers
        by_site.pop(None, None)
        found = [facts(pid) for pid in list(by_site.values())[-2:]]
        return isolation(found[-1], found[0], facts(os.getpid()))

    def settle(self) -> None:
        """Until nobody of the family works any more, for a while at most: the last visit's remains are not the next one's."""
        deadline = time.monotonic() + QUIET_S_MAX
        before, began = self._cpu_s(), time.perf_counter()
        while time.monotonic() < deadline:
            time.sleep(QUIET_S)
            now, ended = self._cpu_s(), time.perf_counter()
            if now - before < QUIET_SHARE * (ended - began):
                return
            before, began = now, ended

    def _cpu_s(self) -> float:
        return sum(cpu_s(pid) for pid in self.family.pids())

    def wait_until(self, is_so: Callable[[], bool], within_s: float, what: str) -> None:
        deadline = time.monotonic() + within_s
        while not is_so():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: not within {within_s:g} s: {what}\n{self.logs()}")
            time.sleep(LOOK_EVERY_S)

    def logs(self) -> str:
        """The ends of its logs, for a message."""
        parts = []
        for path in sorted(self.place.directory.rglob("*.log")):
            parts += [f"--- {path.name}", path.read_text(errors="replace")[-1500:]]
        return "\n".join(parts)


@contextmanager
def started(kind: type[Peer], place: Place) -> Iterator[Peer]:
    with family() as its:
        peer = kind(place, its)
        try:
            peer.start()
            yield peer
        finally:
            peer.stop()


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_listening(port: int) -> bool:
    """Without a connection, which would wake whoever sleeps there."""
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(fields[1].endswith(f":{port:04X}") and fields[3] == TCP_LISTEN for fields in lines)


def whose(pid: int) -> tuple[int, str] | None:
    """User and PID namespace; None of one that is gone."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid, str(Path(f"/proc/{pid}/ns/pid").readlink())
    except (FileNotFoundError, ProcessLookupError):
        return None


def pss_kb(pid: int) -> int:
    """0 of one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def cpu_s(pid: int) -> float:
    """By the scheduler's own count in nanoseconds."""
    found = 0.0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            found += int(file.read_text().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
