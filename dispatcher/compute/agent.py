"""The agent of a Compute: what is asked for (the CMDB, proxies, people) meets what there is (its lives).

It decides with reconcile.py, acts through lives.py, remembers in rows.py, and hears and answers in reception.py. Run it with
`fastcontainer agent`; `fastcontainer agent --clean` removes everything that agents before it left on this host.
"""

import asyncio
import logging
import os
import time

import msgspec
import psutil

from containerlib.sockdiag import SocketDiag
from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.cache import Change, CMCache
from dispatcher.cmdb.events import EventLog
from dispatcher.cmdb.registration import Registration
from dispatcher.cmdb.store import Store, Unavailable
from dispatcher.compute import choosing, connected, described, logs, metrics, reconcile
from dispatcher.compute.adjusting import must_restart
from dispatcher.compute.choosing import Choosing
from dispatcher.compute.defined import needs_new_life
from dispatcher.compute.definitions import Shelf
from dispatcher.compute.failures import Failures
from dispatcher.compute.life import Life
from dispatcher.compute.lives import Lives
from dispatcher.compute.protocol import Gone
from dispatcher.compute.reception import Reception, Waiter
from dispatcher.compute.reconcile import CountStep, Entry, Fate, Step
from dispatcher.compute.roots import Roots
from dispatcher.compute.rows import Rows
from dispatcher.coreapi import service
from dispatcher.domain import App, Cause, ComputeRow, ContainerRow, EventRow, Start, Status, Switch
from dispatcher.problems import Code, Problem
from dispatcher.settings import Settings
from dispatcher.tasks import Tasks, border

TICK_S = 0.25
WORD_S = 5.0  # that a request waits for an app which its proxy knows and we do not; longer than our watch is ever away
RECHECK_S = 1.0  # after somebody who is no proxy was found connected
_log = logging.getLogger(__name__)


class Agent:
    """`lives` is given afterwards: it tells this object what happens to a life, and this object tells it what should."""

    lives: Lives

    def __init__(
        self, settings: Settings, store: Store, cache: CMCache, tasks: Tasks, roots: Roots, shelf: Shelf
    ) -> None:
        self._settings = settings
        self._store = store
        self._cache = cache
        self._tasks = tasks
        self._roots = roots
        self._shelf = shelf
        self._left: set[str] = set()  # images of which a container has let go
        self.rows = Rows(store, cache, tasks)
        self.history = EventLog(store, settings.compute)
        self.reception = Reception(settings, self, tasks)
        self.registration = Registration(store, keys.compute_key(settings.compute))
        self._waiting: dict[str, list[Waiter]] = {}  # by life
        self._failures = Failures()
        self._without_uids: dict[str, str] = {}  # apps for which there is no range of user ids, and why
        self._choosing = Choosing()
        self._changed: dict[str, None] = {}  # apps to reconcile
        self._reconcile_wanted = asyncio.Event()
        self._something_lives = asyncio.Event()
        self._news = asyncio.Event()  # a new one after each change of the configuration
        self._host_diag = SocketDiag()

    def start(self) -> None:
        self.rows.start()
        self._cache.on_change(self._configuration_changed)
        self._cache.on_refused(self._refused)
        self._tasks.start(self._reconcile_changed(), name="reconcile")
        self._tasks.start(self._tick_forever(), name="tick")
        self._tasks.start(self._follow_cmdb(), name="follow cmdb")
        self.registration.start(codec.encode(self._compute_row()))

    async def close(self) -> None:
        await self.reception.close()
        await self.registration.close()
        await self.history.close()
        self._host_diag.close()

    # ---- the CMDB

    async def _follow_cmdb(self) -> None:
        """The first look at everything, in slices: of a million apps, nobody should notice."""
        await self._cache.start()
        self._tell_news()
        for number, app in enumerate(list(self._cache.apps())):
            if not self._cache.containers(app) or self._has_stale_row(app):
                self._want_reconcile(app)
            if number % 500 == 499:
                await asyncio.sleep(0)
        for life in self.lives:
            self._want_reconcile(life.app.name)

    def _tell_news(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _has_stale_row(self, app: str) -> bool:
        rows = self._cache.containers(app).items()
        return any(row.compute == self._settings.compute and row.status is not Status.REGISTERED for _, row in rows)

    def _configuration_changed(self, change: Change) -> None:
        self._tell_news()
        match change.key:
            case keys.SpecKey(app) | keys.WordKey(app, _):
                if isinstance(change.key, keys.SpecKey):
                    self._failures.forgive(app)
                    self._choosing.forget(app)
                self._want_reconcile(app)
            case keys.ContainerKey(app, id):
                row = self._cache.containers(app).get(id)
                if row is None or row.compute == self._settings.compute:
                    self._want_reconcile(app)
            case _:
                pass

    def _refused(self, key: str, value: str, rule: str) -> None:
        app = keys.app_of(key)
        _log.warning("refused %s = %r: %s", key, value[:200], rule)
        if app and self._acts_for(app):
            message = f"refused {key} = {value[:200]!r}: {rule}; the last good value stays in force"
            self.history.record(app, EventRow(time.time(), "refused", message, key=key, value=value[:200]))

    def _acts_for(self, app: str) -> bool:
        return (
            reconcile.acting_compute(app, self._cache.computes() or [self._settings.compute]) == self._settings.compute
        )

    # ---- wanted against actual

    def _want_reconcile(self, app: str) -> None:
        self._changed[app] = None
        self._reconcile_wanted.set()

    async def _reconcile_changed(self) -> None:
        while True:
            await self._reconcile_wanted.wait()
            self._reconcile_wanted.clear()
            for number, app in enumerate(list(self._changed)):
                del self._changed[app]
                try:
                    with border(f"reconciling app {app}", but=(Unavailable, Problem)):
                        await self._reconcile(app)
                except Unavailable as error:
                    _log.debug("app %s waits for the CMDB: %s", app, error)
                    asyncio.get_running_loop().call_later(RECHECK_S, self._want_reconcile, app)
                except (
                    Problem
                ) as problem:  # it was removed a moment ago, or no users are left: told, and the others go on
                    _log.warning("app %s: %s", app, problem)
                if number % 100 == 99:
                    await asyncio.sleep(0)

    async def _reconcile(self, name: str) -> None:
        if not self._cache.revision:
            return  # nothing is known yet, which is not the same as gone
        app = self._cache.app(name)
        if app is None:
            if not self._cache.has_spec(name):
                self._remove(name)
            return
        if app.uid is None and self._acts_for(name):
            await self._claim_uids(name)
        applied = self._shelf.applied(app)
        if applied.spec.image:
            await self._roots.prepare(applied, self._shelf.get(app.spec.definition))
        for life in list(self.lives.of(name).values()):
            self._apply(applied, life)
            self.lives.redefine(life)
            self._put_right(life)
        entries = self._entries(name)
        at_work = (Status.STARTING, Status.RUNNING)
        awake = app.switch is Switch.ON and any(entry.status in at_work and not entry.leaving for entry in entries)
        for step in reconcile.count_steps(app.containers, entries, awake=awake and app.containers > 1):
            self._take_step(app, step)

    async def _claim_uids(self, app: str) -> None:
        try:
            await service.claim_uids(self._store, app)
        except Problem as problem:
            if self._without_uids.get(app) != problem.message:
                self._without_uids[app] = problem.message
                row = EventRow(time.time(), "refused", f"{problem.message}; {problem.hint}")
                self.history.record(app, row)
            self._tell_news()
            raise
        self._without_uids.pop(app, None)

    def _put_right(self, life: Life) -> None:
        """The row of a container with a life is its agent's alone, whoever deleted or changed it by hand."""
        row = self._row(life)
        if self.rows.of(life.app.name).get(life.id) != row:
            self.rows.put(life.app.name, life.id, row)

    def _entries(self, app: str) -> list[Entry]:
        lives = self.lives.of(app)
        entries = []
        for id, row in self.rows.of(app).items():
            life = lives.get(id)
            status = life.status if life else row.status
            rests = self._failures.is_resting(app, id, time.monotonic())
            if life is None and row.compute == self._settings.compute and status is not Status.REGISTERED and not rests:
                status = Status.REGISTERED  # an older agent's word about a life, or a rest, that is no more
                self.rows.put(app, id, msgspec.structs.replace(row, status=status, address="", local_address=""))
            entries.append(Entry(id, status, leaving=life is not None and life.is_leaving))
        return entries

    def _take_step(self, app: App, step: CountStep) -> None:
        row = self.rows.of(app.name).get(step.id)
        mine = row is None or row.compute == self._settings.compute
        match step.step:
            case Step.REGISTER:
                if self._acts_for(app.name):
                    self.rows.put(app.name, step.id, ContainerRow(self._settings.compute))
            case Step.REMOVE:
                if self._acts_for(app.name):
                    self.rows.put(app.name, step.id, None)
            case Step.DRAIN:
                if life := self.lives.get(app.name, step.id):
                    life.leaving = True
                    self.lives.drain(life, "fewer containers are wanted")
            case Step.START:
                if mine and self.lives.get(app.name, step.id) is None:
                    self._start(app, step.id, Cause.SCALE, "")

    def _apply(self, app: App, life: Life) -> None:
        """A changed configuration to a life that runs."""
        app = self._with_last_good(app, life)
        is_undefined = bool(app.spec.definition) and life.definition is None and life.status is Status.STARTING
        if life.draining or is_undefined:  # it is yet to read what it is
            return
        if app.switch is Switch.OFF:
            self.lives.drain(life, "switched off")
        elif reason := self._why_outdated(app, life):
            if life.status is Status.FROZEN:
                self.lives.drain(life, reason)
            elif not life.successor:
                self._replace(life, reason)
        elif app != life.app:
            self._resize(app, life)

    def _why_outdated(self, app: App, life: Life) -> str:
        """What only a new process can take in; empty if there is nothing."""
        name = app.spec.definition
        if name and self._shelf.get(name) is None:
            return ""  # there is nothing that it could be replaced by
        if must_restart(app, life.app) or needs_new_life(life.definition, self._shelf.get(name)):
            return "its definition was changed"
        newest = self._roots.newest(app) if life.image else ""
        return f"image {newest} was built" if newest not in ("", life.image) else ""

    def _with_last_good(self, app: App, life: Life) -> App:
        """An agent that starts while a bad word stands in the CMDB never saw the good one; the life still has it."""
        kept: dict[str, float | int | None] = {}
        for field, attribute in ((keys.Field.CPU, "cpu"), (keys.Field.MEMORY, "memory_bytes")):
            if getattr(app, attribute) is None and self._cache.is_refused(keys.word_key(app.name, field)):
                kept[attribute] = getattr(life.app, attribute)
        return msgspec.structs.replace(app, **kept) if kept else app

    def _resize(self, app: App, life: Life) -> None:
        before = life.app
        try:
            self.lives.resize(life, app)
        except OSError as error:
            life.app = before
            self.tell(life, "refused", f"the kernel refused the new limits: {error}")
            return
        if (app.cpu, app.memory_bytes) != (before.cpu, before.memory_bytes):
            self.tell(life, "scaled", described.limits_of(app))
            self.rows.put(app.name, life.id, self._row(life))

    def _remove(self, app: str) -> None:
        for life in list(self.lives.of(app).values()):
            life.leaving = True
            self.lives.drain(life, "its app was removed")
        for id, row in self.rows.of(app).items():
            if row.compute == self._settings.compute and self.lives.get(app, id) is None:
                self.rows.put(app, id, None)
                self._failures.forget(app, id)
        self._choosing.forget(app)
        self._without_uids.pop(app, None)
        if not self.lives.of(app):
            self._roots.forget(app)
            logs.remove(self._settings.log_dir, app)
            self.lives.forget(app)

    # ---- starting

    def _start(self, app: App, id: str, cause: Cause, detail: str) -> Life:
        row = self.rows.of(app.name).get(id)
        generation = self.lives.next_generation(app.name, id, row.generation if row else 0)
        life = self.lives.start(app, id, generation, cause, detail, self._choosing.begin(app))
        self.tell(life, "started", f"{cause}: {detail}" if detail else str(cause))
        self._something_lives.set()
        return life

    def _replace(self, life: Life, reason: str) -> None:
        """A successor first; the old one drains when that listens."""
        app = self._cache.app(life.app.name) or life.app
        life.successor, life.outdated = reconcile.next_id(self.rows.of(app.name)), reason
        self.tell(life, "replaced", f"{reason}; successor {app.name}/{life.successor}")
        self.rows.put(app.name, life.successor, ContainerRow(self._settings.compute))
        self._start(app, life.successor, Cause.LIFESPAN, reason)

    def ensure(self, app_name: str, id: str, cause: Cause, detail: str, waiter: Waiter) -> None:
        """Calls `waiter` once, now or later: with a life that runs, or with why none does."""
        lives = [life for life in self.lives.of(app_name).values() if not life.draining]
        running = [life for life in lives if life.status is Status.RUNNING]
        if not running and any(life.status is Status.FROZEN for life in lives):
            running = self._thaw(app_name, cause, detail)
            lives = [life for life in lives if life.status is Status.STARTING]
        if running:
            waiter(min(running, key=lambda life: (life.id != id, life.in_flight)))
            return
        starting = sorted(lives, key=lambda life: life.id != id)
        if not starting and not self._is_known(app_name) and cause is Cause.REQUEST:
            await_word = self._ensure_when_known(app_name, id, detail, waiter)
            self._tasks.start(await_word, name=f"wait for word of {app_name}")
            return
        try:
            life = starting[0] if starting else self._wake(app_name, id, cause, detail)
        except Problem as problem:
            waiter(problem)
            return
        self._waiting.setdefault(life.name, []).append(waiter)

    def _is_known(self, app_name: str) -> bool:
        """With its user ids, or why it has none."""
        app = self._cache.app(app_name)
        return app is not None and (app.uid is not None or app_name in self._without_uids)

    async def _ensure_when_known(self, app_name: str, id: str, detail: str, waiter: Waiter) -> None:
        """A proxy knows an app before it asks for it; where we do not, its watch was quicker, or ours is not back yet."""
        try:
            async with asyncio.timeout(WORD_S):
                while not self._is_known(app_name):
                    await self._news.wait()
        except TimeoutError:
            if self._cache.app(app_name) is not None:
                why = f"app {app_name} has no range of user ids yet (key apps/{app_name}/uid_base)"
                waiter(Problem(Code.CMDB_DOWN, why, retry_after_s=WORD_S))
            elif self._cache.revision:
                waiter(Problem(Code.UNKNOWN_APP, f"there is no app {app_name!r}"))
            else:
                waiter(Problem(Code.CMDB_DOWN, f"nothing is known of app {app_name} yet", retry_after_s=WORD_S))
            return
        self.ensure(app_name, id, Cause.REQUEST, detail, waiter)

    def _wake(self, app_name: str, id: str, cause: Cause, detail: str) -> Life:
        """Raises Problem."""
        app = self._cache.app(app_name)
        if app is None:
            raise Problem(Code.UNKNOWN_APP, f"there is no app {app_name!r}")
        if app.switch is not Switch.ON:
            raise Problem(Code.SWITCHED_OFF, f"app {app_name} is switched {app.switch}")
        if app.containers == 0:
            raise Problem(
                Code.SWITCHED_OFF, f"app {app_name} is to have no containers (key apps/{app_name}/containers)"
            )
        rows = self.rows.of(app_name)
        lives = self.lives.of(app_name)
        mine = [each for each, row in rows.items() if row.compute == self._settings.compute and each not in lives]
        able = [
            each
            for each in mine
            if cause is not Cause.REQUEST or not self._failures.is_resting(app_name, each, time.monotonic())
        ]
        if mine and not able:
            failure = self._failures.first_rested(app_name, mine)
            wait_s = max(0.1, failure.rest_until - time.monotonic())
            raise Problem(Code.BACKING_OFF, f"app {app_name} failed: {failure.reason}", retry_after_s=wait_s)
        if not able:
            able = [reconcile.next_id(rows)]  # all drain, or nobody has registered one yet
            for life in lives.values():
                life.leaving = True
            self.rows.put(app_name, able[0], ContainerRow(self._settings.compute))
        return self._start(app, id if id in able else able[0], cause, detail)

    def _thaw(self, app_name: str, cause: Cause, detail: str) -> list[Life]:
        """All that are frozen: an app sleeps and wakes as a whole. Returns those that run again."""
        app = self._cache.app(app_name)
        if app is not None and app.switch is not Switch.ON:
            return []
        thawed = []
        for life in [life for life in self.lives.of(app_name).values() if life.status is Status.FROZEN]:
            if time.time() >= life.expires:  # between two ticks
                self.lives.drain(life, "its lifespan is over")
                continue
            was_frozen = life.is_frozen
            try:
                self.lives.thaw(life)
            except OSError as error:
                self.tell(life, "not thawed", f"{error}; another one is started instead")
                life.leaving = True
                self.lives.drain(life, "it could not be thawed", cut_after_s=0.0)
                continue
            life.cause, life.detail = cause, detail
            thawed.append(life)
            # After whoever waits was told.
            asyncio.get_running_loop().call_soon(self._tell_thawed, life, was_frozen)
        return thawed

    def _tell_thawed(self, life: Life, was_frozen: bool) -> None:
        if was_frozen:
            self.tell(life, "thawed", f"{life.cause}: {life.detail}" if life.detail else str(life.cause))
            metrics.observe_thaw(life.cause, life.phases)
            self._choosing.thawed(life)
        self.reception.publish_life(life)
        self.rows.put(life.app.name, life.id, self._row(life))

    def is_used(self, life: Life, cause: Cause, detail: str) -> None:
        self._thaw(life.app.name, cause, detail)

    def _answer(self, life: Life, result: Life | Problem) -> None:
        for waiter in self._waiting.pop(life.name, ()):
            waiter(result)

    # ---- what lives.py tells

    def proxies(self) -> set[int]:
        return self.reception.proxies

    def life_changed(self, life: Life) -> None:
        if life.status is Status.RUNNING:
            self._answer(life, life)
            if life.phases:  # one that a former agent started has none
                self.tell(life, "ready", " ".join(f"{phase}={ms:.1f}ms" for phase, ms in life.phases.items()))
                metrics.observe_start(life.cause, life.phases)
                self._choosing.started(life)
        self.reception.publish_life(life)
        self.rows.put(life.app.name, life.id, self._row(life))
        if life.status is Status.RUNNING:  # only now: who is told that the old one drains must know the new one
            for old in self.lives.of(life.app.name).values():
                if old.successor == life.id:
                    self._drain_replaced(old)

    def not_imaged(self, life: Life, kind: str, why: str) -> None:
        self._choosing.failed(life, Start.RESTORED)
        self.tell(life, kind, why)

    def not_frozen(self, life: Life, why: str) -> None:
        self._choosing.failed(life, Start.FROZEN)
        self.tell(life, "not frozen", f"{why}; it is stopped instead")
        self.lives.drain(life, "idle")

    def life_ended(self, life: Life, *, expected: bool) -> None:
        app, id = life.app.name, life.id
        if life.root:
            self._left.add(life.root.image.manifest.name)
        self.reception.publish(Gone(app, id, life.generation, life.problem))
        if expected:
            self._failures.forget(app, id)
            self.tell(life, "stopped", life.draining.reason if life.draining else "")
            row = msgspec.structs.replace(described.resting(self._row(life)), reason="")
            self.rows.put(app, id, None if life.is_leaving else row)
            waiters = self._waiting.pop(life.name, ())
            for waiter in waiters:  # it was told to go while somebody waited for it
                self.ensure(app, id, Cause.REQUEST, life.detail, waiter)
        else:
            self._failed(life)
        self._want_reconcile(app)

    def _failed(self, life: Life) -> None:
        app, id, now = life.app.name, life.id, time.monotonic()
        if life.app.uid is None:
            life.problem = self._without_uids.get(app, life.problem)
        ran_s = now - life.running_since if life.running_since else 0.0
        rest_s = self._failures.record(app, id, life.problem, ran_s=ran_s, now=now)
        status = Status.FAILED if rest_s else Status.REGISTERED
        row = described.resting(self._row(life))
        self.rows.put(app, id, msgspec.structs.replace(row, status=status, reason=life.problem[:500]))
        self.tell(life, "failed", life.problem)
        metrics.FAILURES.labels("died" if ran_s else "start").inc()
        self._answer(
            life, Problem(Code.START_FAILED, f"app {app} did not start: {life.problem}", retry_after_s=max(1.0, rest_s))
        )
        self._something_lives.set()

    def tell(self, life: Life, kind: str, message: str) -> None:
        """Put down at the loop's next turn, in the order of telling: it takes 0.2 ms, for which a start need not wait."""
        row = EventRow(time.time(), kind, message, container=life.id, life=life.name)
        asyncio.get_running_loop().call_soon(self._put_down, life.app.name, row)

    def _put_down(self, app: str, row: EventRow) -> None:
        _log.info("%s %s: %s", row.life, row.kind, row.message)
        self.history.record(app, row)

    def _row(self, life: Life) -> ContainerRow:
        return described.row_of(life, self._settings.compute)

    # ---- as time goes by

    async def _tick_forever(self) -> None:
        """Sleeps for good while nothing lives and nothing rests."""
        next_slow = 0.0
        while True:
            metrics.update(self.lives, self.rows.behind)
            is_idle = not len(self.lives) and not self._failures and not self._left
            if is_idle and not self.lives.reserve_is_large(time.monotonic()):
                self._something_lives.clear()
                await self._something_lives.wait()
            now = time.monotonic()
            for app in {life.app.name for life in self.lives}:
                with border(f"looking after app {app}"):
                    self._tick(app, now)
            with border("looking after what failed"):
                self._tick_failures(now)
            if now >= next_slow:
                next_slow = now + 5.0
                self.lives.let_killed_die()
                with border("looking after the host's memory"):
                    self._relieve()
                with border("looking after the reserve"):
                    self.registration.update(codec.encode(self._compute_row()))
                    await self.lives.shrink_reserve(now)
                with border("looking after files"):
                    await self._look_after_files()
            await asyncio.sleep(TICK_S)

    async def _look_after_files(self) -> None:
        """Versions of images and definitions that are new to us, and versions that nobody needs any more, while nobody waits for a
        start."""
        for app in self._roots.changed():
            self._want_reconcile(app)
        if self._shelf.has_changed():
            complaints = await self._shelf.refresh()
            for life in [life for life in self.lives if life.app.spec.definition]:
                self._want_reconcile(life.app.name)
                for complaint in complaints:
                    self.tell(life, "refused", complaint)
        if self._left and not any(life.status is Status.STARTING for life in self.lives):
            left, self._left = self._left, set()
            for name in await self._roots.remove_unused(left):
                _log.info("removed image %s, which nobody runs on any more", name)

    def _tick(self, app: str, now: float) -> None:
        lives = list(self.lives.of(app).values())
        for life in lives:
            overdue_s = time.time() - life.expires
            if life.draining and overdue_s >= life.app.spec.policy.drain_grace_s:
                self.lives.drain(life, life.draining.reason, cut_after_s=0.0)
            self.lives.check(life, now)
        staying = [life for life in lives if not life.draining]
        busy = any(life.in_flight or life.visitors or life.status is Status.STARTING for life in staying)
        quiet_s = 0.0 if busy else now - max((life.quiet_since for life in staying), default=now)
        for life in staying:
            if life.status is Status.RUNNING:
                self._decide_fate(life, quiet_s, now)
            elif reason := self._end_of_frozen(life):
                self.lives.drain(life, reason)

    def _decide_fate(self, life: Life, quiet_s: float, now: float) -> None:
        policy = life.app.spec.policy
        overdue_s = time.time() - life.expires
        match reconcile.fate(policy, quiet_s=quiet_s, overdue_s=overdue_s, successor=self._successor_status(life)):
            case Fate.SLEEP:
                if overdue_s < policy.drain_grace_s and self._is_used_directly(life):
                    life.quiet_since = now - policy.idle_s + RECHECK_S
                else:
                    self.lives.drain(life, "idle" if overdue_s < 0 else "its lifespan is over")
            case Fate.FREEZE:
                self._rest(life.app, now)
            case Fate.REPLACE:
                self._replace(life, "its lifespan is over")
            case Fate.END:
                self._drain_replaced(life)
            case Fate.LIVE:
                pass

    def _rest(self, app: App, now: float) -> None:
        """All that run are frozen, or all are stopped."""
        running = [life for life in self.lives.of(app.name).values() if life.status is Status.RUNNING]
        if any(self._is_used_directly(life) for life in running):
            for life in running:
                life.quiet_since = now - life.app.spec.policy.idle_s + RECHECK_S
            return
        staying = [life for life in running if time.time() < life.expires and not life.successor]
        choice = self._choosing.rest(app, staying, lacks_image=any(map(self.lives.lacks_image, staying)))
        for life in staying:
            if choice.start is Start.FROZEN:
                self.lives.freeze(life, choice.why)
            else:
                self.lives.drain(life, f"idle; {choice.why}")

    def _relieve(self) -> None:
        if app := choosing.to_stop(self.lives):
            for life in self.lives.of(app).values():
                if life.is_frozen:
                    self.lives.drain(life, "the host's memory is short")

    def _end_of_frozen(self, life: Life) -> str:
        if life.status is not Status.FROZEN:
            return ""
        return reconcile.end_of_frozen(life.app.spec.policy, overdue_s=time.time() - life.expires)

    def _successor_status(self, life: Life) -> Status | None:
        if not life.successor:
            return None
        if successor := self.lives.get(life.app.name, life.successor):
            return successor.status
        if self.rows.of(life.app.name).get(life.successor):
            return Status.FAILED  # tried again when it has rested
        # It was replaced in its turn, by one that counts as well.
        others = [
            each.status for each in self.lives.of(life.app.name).values() if each is not life and not each.is_leaving
        ]
        return Status.RUNNING if Status.RUNNING in others else Status.STARTING if others else None

    def _drain_replaced(self, life: Life) -> None:
        over = time.time() >= life.expires
        left_s = max(0.0, life.expires + life.app.spec.policy.drain_grace_s - time.time()) if over else None
        reason = "its lifespan is over" if over else life.outdated or "its definition was changed"
        self.lives.drain(life, reason, cut_after_s=left_s)

    def _is_used_directly(self, life: Life) -> bool:
        assert life.handle is not None
        port, own = life.app.spec.port, life.handle.address
        foreign = connected.foreign(life.handle.wire.diag.established(), own=own, port=port)
        if any(found.remote != self.lives.host_address for found in foreign):
            return True
        if not foreign:
            return False
        outside, uids = self._host_diag.established(), self.reception.proxy_uids
        return connected.by_others_on_host(outside, own=own, port=port, proxy_uids=uids)

    def _tick_failures(self, now: float) -> None:
        for app, id in self._failures.rested(now):
            row = self.rows.of(app).get(id)
            if row and row.status is Status.FAILED and self.lives.get(app, id) is None:
                self.rows.put(app, id, msgspec.structs.replace(row, status=Status.REGISTERED))
                self._want_reconcile(app)
            self._retry_successor(app, id)

    def _retry_successor(self, app: str, id: str) -> None:
        predecessor = next((life for life in self.lives.of(app).values() if life.successor == id), None)
        if predecessor and self.lives.get(app, id) is None:
            self._start(self._cache.app(app) or predecessor.app, id, Cause.LIFESPAN, "once more")

    def _compute_row(self) -> ComputeRow:
        lives = list(self.lives)
        return ComputeRow(
            dispatcher=self._settings.webdispatcher_listen,
            cores=float(os.cpu_count() or 1),
            memory_bytes=psutil.virtual_memory().total,
            cpu_committed=round(sum(life.app.cpu or 0.0 for life in lives), 2),
            memory_committed_bytes=sum(life.app.memory_bytes or 0 for life in lives),
            containers=len(lives),
        )
