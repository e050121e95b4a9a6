"""The containers as a proxy sees them: the CMDB's rows, overlaid with what this host's agent pushes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from addons import routing
from addons.routing import Asleep, Backend
from dispatcher.compute.link import AgentLink
from dispatcher.compute.protocol import Live
from dispatcher.domain import App, ComputeRow, ContainerRow, Status
from dispatcher.settings import host_port

SUSPECT_S = 1.0  # how long a container that failed a request gets no other one, unless its agent says that it runs
FIRST_CONTAINER = "1"


class Rows(Protocol):
    def containers(self, app: str) -> dict[str, ContainerRow]: ...

    def computes(self) -> dict[str, ComputeRow]: ...


class _Suspects:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._until: dict[str, float] = {}
        self._clock = clock

    def add(self, key: str) -> None:
        now = self._clock()
        self._until = {known: until for known, until in self._until.items() if until > now}
        self._until[key] = now + SUSPECT_S

    def clear(self, key: str) -> None:
        self._until.pop(key, None)

    def __contains__(self, key: str) -> bool:
        return bool(self._until) and self._until.get(key, 0.0) > self._clock()


def _backend(live: Live, compute: str, app: App) -> Backend:
    concurrency = app.spec.policy.concurrency or live.concurrency
    return Backend(live.app, live.container, compute, host_port(live.address), live.life, concurrency, remote=False)


class LocalView:
    """A Web Dispatcher's: this host's containers only."""

    def __init__(self, link: AgentLink, *, compute: str, clock: Callable[[], float]) -> None:
        self._link = link
        self._compute = compute
        self._suspects = _Suspects(clock)

    def suspect(self, backend: Backend) -> None:
        self._suspects.add(backend.key)

    def running(self, app: App) -> Sequence[Backend]:
        return [
            _backend(live, self._compute, app)
            for live in self._link.live.get(app.name, {}).values()
            if live.status is Status.RUNNING and live.address and live.life not in self._suspects
        ]

    def to_wake(self, app: App, wanted: str) -> Backend | str | None:
        return wanted or FIRST_CONTAINER

    async def start(self, app: App, container: str, detail: str) -> Mapping[str, float]:
        answer = await self._link.ensure(app.name, container, wait_s=app.spec.policy.start_timeout_s, detail=detail)
        self._suspects.clear(answer.live.life)
        return answer.phases


class WholeView(LocalView):
    """A UserProxy's: every Compute's containers. Those of other hosts are reached through their Web Dispatchers; so are this
    host's if it is told to take no short cut, or is no Compute."""

    def __init__(
        self, link: AgentLink, rows: Rows, *, compute: str, short_cut: bool, clock: Callable[[], float]
    ) -> None:
        super().__init__(link, compute=compute, clock=clock)
        self._rows = rows
        self._short_cut = short_cut

    @property
    def _here(self) -> str | None:
        return self._compute if self._short_cut and self._link.connects else None

    def running(self, app: App) -> Sequence[Backend]:
        here = self._here
        found = list(super().running(app)) if here is not None else []
        computes: dict[str, ComputeRow] | None = None
        for container, row in self._rows.containers(app.name).items():
            if row.compute == here or row.status is not Status.RUNNING:
                continue
            computes = self._rows.computes() if computes is None else computes
            if (compute := computes.get(row.compute)) is not None:
                backend = self._remote(app, container, row.compute, compute)
                if backend.key not in self._suspects:
                    found.append(backend)
        return found

    def to_wake(self, app: App, wanted: str) -> Backend | str | None:
        here = self._here
        computes = self._rows.computes()
        rows = self._rows.containers(app.name)
        asleep = [
            Asleep(container, row.compute, self._status(app.name, container, row, here))
            for container, row in rows.items()
            if row.compute == here or row.compute in computes
        ]
        chosen = routing.to_wake(app.name, asleep)
        if chosen is None:
            if rows:
                return None
            home = routing.home(app.name, [*computes] if here is None else [*{*computes, here}])
            if home is None:
                return None
            chosen = Asleep(FIRST_CONTAINER, home, Status.REGISTERED)
        if chosen.compute == here:
            return chosen.container
        return self._remote(app, chosen.container, chosen.compute, computes[chosen.compute])

    def _status(self, app: str, container: str, row: ContainerRow, here: str | None) -> Status:
        if row.compute != here:
            return row.status
        live = self._link.live.get(app, {}).get(container)
        if live is not None:
            return live.status
        return Status.FAILED if row.status is Status.FAILED else Status.REGISTERED

    def _remote(self, app: App, container: str, name: str, compute: ComputeRow) -> Backend:
        # The Web Dispatcher over there holds and releases; here only the app's bound counts.
        address = host_port(compute.dispatcher)
        return Backend(app.name, container, name, address, "", max(1, app.spec.policy.queue_max), remote=True)
