"""Keeps HAProxy's lanes as the CMDB and the agent want them.

One loop. Each pass plans by what is known (so that a dead container is out before anything is read), looks at the lanes where
somebody waits for a request to end, once a second at all, plans again, and tells the agent what is in flight. What HAProxy has is
read as a whole after a start, a failure, or a long while; between these we know what we did.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace

from dispatcher.cmdb import keys
from dispatcher.cmdb.cache import Change, CMCache
from dispatcher.compute.protocol import Gone, Live
from dispatcher.domain import Status, life_name
from dispatcher.tasks import border
from dispatcher.userlb import lanes
from dispatcher.userlb.config import Pool
from dispatcher.userlb.counting import Counts, Use, Waiting
from dispatcher.userlb.digesting import Digests
from dispatcher.userlb.haproxy import CommandFailed, Runtime
from dispatcher.userlb.lanes import Actual, Memory, Site
from dispatcher.userlb.link import LaneLink
from dispatcher.userlb.logs import LogReader
from dispatcher.userlb.process import DoesNotStart, Haproxy
from dispatcher.userlb.sites import Names, lives_by_address, site_of

LOOK_S = 1.0  # between two looks at all lanes in use
WAITING_LOOK_S = 0.1  # where a request is waited for to end
ALIVE_S = 3.0  # without a pass
AUDIT_S = 60.0  # between two readings of everything
REST = 3  # times as long as the pass took
REST_S_MAX = 0.1
PAUSE_FIRST_S, PAUSE_LAST_S = 0.05, 5.0  # after a failure

_log = logging.getLogger(__name__)


class Controller:
    def __init__(
        self,
        pool: Pool,
        cache: CMCache,
        link: LaneLink,
        *,
        digests: Digests,
        log: LogReader,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.memory = Memory()
        self.counts = Counts()
        self.passes = 0
        self.restarts = 0
        self._pool = pool
        self._cache = cache
        self._link = link
        self._digests = digests
        self._log = log
        self._wall_clock = wall_clock
        self._clock = clock
        self._runtime = Runtime(pool)
        self.haproxy = Haproxy(pool, self._runtime, ended=self._haproxy_ended)
        self._names = Names(cache.domains)
        self._actual = Actual()
        self._use = Use()
        self._waiting = Waiting()
        self._since: dict[str, float] = {}  # by life: when it was first seen to run
        self._wake = asyncio.Event()
        self._is_known = False  # what HAProxy has
        self._looked = self._audited = 0.0
        self._passed: float | None = None
        self._pause_s = PAUSE_FIRST_S
        cache.on_change(self._row_changed)

    # ---- what wakes it

    def containers_changed(self, message: Live | Gone) -> None:
        if isinstance(message, Gone):
            life = life_name(message.app, message.container, message.generation)
            self._link.unheard.pop(life, None)
            self._since.pop(life, None)
        elif message.status is Status.RUNNING:
            self._link.unheard.pop(message.life, None)
        self._wake.set()

    def _row_changed(self, change: Change) -> None:
        if isinstance(change.key, keys.DomainKey):
            self._names.changed(change.key.domain)
        elif isinstance(change.key, keys.ComputeKey):
            return
        self._wake.set()

    def _haproxy_ended(self) -> None:
        _log.warning("HAProxy is gone, and started again")
        self.restarts += 1
        self._is_known = False
        self._wake.set()

    @property
    def unconfirmed(self) -> int:
        return len(self._link.unheard)

    def is_alive(self) -> bool:
        """Whether anybody takes dead containers out of their lanes."""
        if self._passed is None:
            return (
                self.haproxy.was_started
            )  # nothing is in any lane yet; HAProxy asks at once, and believes the first answer
        return self._clock() - self._passed < ALIVE_S

    # ---- the loop

    async def run(self) -> None:
        """Once CMCache is loaded and the agent has told what runs."""
        self._names.reload()
        while True:
            began = self._clock()
            self._wake.clear()
            pause_s = PAUSE_LAST_S
            with border("a pass"):
                pause_s = await self._pass_or_recover()
            took_s = self._clock() - began
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            await asyncio.sleep(min(REST_S_MAX, REST * took_s))

    async def _pass_or_recover(self) -> float:
        """Seconds until the next pass, if nothing happens."""
        try:
            if not self._is_known or not self.haproxy.is_watched:
                await self.haproxy.obtain()
                self._recall(await self._runtime.read())
            elif self._clock() - self._audited > AUDIT_S:
                self._audit(await self._runtime.read())
            pause_s = await self._pass()
        except (OSError, CommandFailed, DoesNotStart) as error:
            _log.warning("HAProxy: %s", error or type(error).__name__)
            self._is_known = False
            pause_s = self._pause_s
            self._pause_s = min(PAUSE_LAST_S, pause_s * 2)
            return pause_s
        self._pause_s = PAUSE_FIRST_S
        return pause_s

    def _recall(self, actual: Actual) -> None:
        """Believe nothing else."""
        self._actual = actual
        self.memory = lanes.recall(actual, self._cache.domains(), lives_by_address(self._link.live))
        self._log.memory = self.memory
        self._audited = self._clock()
        self._is_known = True

    def _audit(self, actual: Actual) -> None:
        self._audited = self._clock()
        if _named(actual) != _named(self._actual):
            _log.warning("HAProxy has other names or policies than it was given")
            self._recall(actual)

    async def _pass(self) -> float:
        self.passes += 1
        unheard = dict(self._link.unheard)
        moved = await self._plan()
        is_due = self._clock() - self._looked >= LOOK_S
        wanted = self._in_use() if is_due else lanes.unsettled(self._actual)
        if wanted or self.counts.in_flight or self.haproxy.former:
            await self._look(wanted, is_whole=is_due)
            moved = await self._plan() or moved
        self._confirm(unheard)
        self._passed = self._clock()
        if moved:
            return 0.0
        return WAITING_LOOK_S if lanes.unsettled(self._actual) else LOOK_S

    async def _plan(self) -> bool:
        sites = self._sites()
        yielded = self._waiting.keep(self.memory.yielded, self._clock())
        commands, memory = lanes.turn(
            sites,
            self._names.below(sites.values()),
            self._actual,
            replace(self.memory, yielded=yielded),
            lanes=self._pool.lanes,
            slots=self._pool.slots,
            use=dict.fromkeys(self.memory.owners.values(), math.inf) | self._use.by_app(self._clock()),
        )
        if commands:
            await self._runtime.do(commands)
            self._actual = lanes.after(self._actual, commands)
        self.memory = self._log.memory = memory
        return bool(commands)

    async def _look(self, wanted: set[str], *, is_whole: bool) -> None:
        self._actual = lanes.read_again(self._actual, await self._runtime.read_lanes(sorted(wanted)), wanted)
        self._log.drain()  # before a slot that turns out to be empty becomes another's
        if told := self.counts.take(self._actual, self.memory, self._in_flight_before()):
            self._link.traffic(told)
        if is_whole:
            requests, self.counts.requests = self.counts.requests, {}
            if digests := self._digests.close(requests, self._wall_clock()):
                self._link.responses(digests)
            self._looked = self._clock()
            self._use.take(self._actual, self.memory, self._looked)

    def _in_flight_before(self) -> dict[str, int]:
        """By life, in HAProxies that were replaced, as it was then: they have no socket any more, but end when all has."""
        found: dict[str, int] = {}
        lives = lives_by_address(self._link.live) if self.haproxy.former else {}
        for had in self.haproxy.former.values():
            for slot in had.slots.values():
                if slot.in_flight and slot.address in lives:
                    life = lives[slot.address][1]
                    found[life] = found.get(life, 0) + slot.in_flight
        return found

    def _confirm(self, unheard: dict[str, int]) -> None:
        """To the agent, of containers that were not wanted any more when this pass began: the first plan closed their slots, and
        what was read after that can only fall."""
        in_flight = self.counts.in_flight
        self._link.confirm({life: (turn, in_flight.get(life, 0)) for life, turn in unheard.items()})

    # ---- what is wanted

    def _sites(self) -> dict[str, Site]:
        found: dict[str, Site] = {}
        for name, lives in self._link.live.items():
            app = self._cache.app(name)
            if app is None:
                continue
            site = site_of(
                app,
                lives.values(),
                self._cache.containers(name),
                self._names.of(name),
                compute=self._link.compute,
                ages=self._age,
            )
            if site is not None:
                found[name] = site
        return found

    def _age(self, life: str) -> float:
        return self._clock() - self._since.setdefault(life, self._clock())

    def _in_use(self) -> set[str]:
        return {*self.memory.owners} | {id.lane for id in self._actual.slots}


def _named(actual: Actual) -> tuple[object, ...]:
    """What nobody but us changes."""
    return actual.routes, actual.policies, actual.tokens
