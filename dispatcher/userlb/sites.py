"""Which apps may have a lane, and by which names they are known."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from dispatcher.compute.protocol import Live
from dispatcher.domain import App, ContainerRow, Status, Switch
from dispatcher.userlb.lanes import WEIGHT_MAX, Container, Site, under

SLOW_START_S, SLOW_START_STEPS, WEIGHT_FIRST = 10.0, 5, 10


def site_of(
    app: App,
    lives: Iterable[Live],
    rows: Mapping[str, ContainerRow],
    domains: Iterable[str],
    *,
    compute: str,
    ages: Callable[[str], float] = lambda life: 0.0,
) -> Site | None:
    """`ages`: seconds since a life was first seen to run.

    None: the UserProxies have something to say in its requests. They know the containers of other hosts, and can let nobody wait
    where `queue_max` is 0."""
    policy = app.spec.policy
    if app.switch is not Switch.ON or policy.queue_max == 0:
        return None
    if any(row.compute != compute for row in rows.values()):
        return None
    running = sorted((live for live in lives if live.status is Status.RUNNING and live.address), key=lambda x: x.life)
    if not running:
        return None
    weights = weights_of({live.life: ages(live.life) for live in running})
    containers = tuple(
        Container(live.life, live.address, policy.concurrency or live.concurrency, weights[live.life])
        for live in running
    )
    return Site(
        app.name,
        tuple(sorted(domains)),
        containers,
        int(policy.response_timeout_s * 1000),
        policy.queue_max,
        sticky=policy.sticky,
        server_timing=policy.server_timing,
    )


def weights_of(ages_s: Mapping[str, float]) -> dict[str, int]:
    """A fresh container beside warmed-up ones gets little at first; where all are fresh there is nobody to spare them."""
    if all(age_s < SLOW_START_S for age_s in ages_s.values()):
        return dict.fromkeys(ages_s, WEIGHT_MAX)
    return {life: _weight(age_s) for life, age_s in ages_s.items()}


def _weight(age_s: float) -> int:
    step = int(min(1.0, age_s / SLOW_START_S) * SLOW_START_STEPS)  # few, for each is a command
    return max(WEIGHT_FIRST, WEIGHT_MAX * step // SLOW_START_STEPS)


class Names:
    """The names of each app, and those below the wildcards that somebody asked for. Changes cost their own size, not the table's.

    `table`: app by domain, as CMCache has it. Only dicts of text: see dispatcher/cmdb/rows.py.
    """

    def __init__(self, table: Callable[[], Mapping[str, str]]) -> None:
        self._table = table
        self._of: dict[str, str] = {}  # by app, with blanks between; may hold names that have become another's
        self._below: dict[str, dict[str, None]] = {}
        self.reload()

    def reload(self) -> None:
        found: dict[str, list[str]] = {}
        for domain, app in self._table().items():
            found.setdefault(app, []).append(domain)
        self._of = {app: " ".join(domains) for app, domains in found.items()}
        self._below.clear()

    def changed(self, domain: str) -> None:
        app = self._table().get(domain)
        if app is not None and domain not in self._of.get(app, "").split():
            self._of[app] = f"{self._of[app]} {domain}" if app in self._of else domain
        for wildcard, names in self._below.items():
            if app is None:
                names.pop(domain, None)
            elif under(wildcard, (domain,)):
                names[domain] = None

    def of(self, app: str) -> list[str]:
        table = self._table()
        known = self._of.get(app, "").split()
        found = [domain for domain in known if table.get(domain) == app]
        if len(found) < len(known):
            self._of[app] = " ".join(found)
        return found

    def below(self, sites: Collection[Site]) -> dict[str, list[str]]:
        """By wildcard of these sites: the names of others under it."""
        table = self._table()
        wildcards = {domain: site.app for site in sites for domain in site.domains if domain.startswith("*.")}
        known = self._below
        self._below = {
            wildcard: known[wildcard] if wildcard in known else dict.fromkeys(under(wildcard, table))
            for wildcard in wildcards
        }
        return {
            wildcard: [name for name in self._below[wildcard] if table.get(name) != app]
            for wildcard, app in wildcards.items()
        }


def lives_by_address(live: Mapping[str, Mapping[str, Live]]) -> dict[str, tuple[str, str]]:
    """Address -> app, life."""
    return {each.address: (each.app, each.life) for each in every(live) if each.address}


def every(live: Mapping[str, Mapping[str, Live]]) -> Iterator[Live]:
    for rows in live.values():
        yield from rows.values()
