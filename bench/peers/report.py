"""What was measured of all peers, as tables and as JSON. Pure but for the printing."""

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from bench.peers.isolation import Isolation
from bench.peers.loading import Load
from bench.peers.peer import Memory
from bench.peers.place import Page
from bench.results import Report, Result, machine, measured, percentile

OURS = "FastContainer"
WIDTH = 136


class Measured(msgspec.Struct, frozen=True):
    """`first` in milliseconds, a sample for each visit to a sleeping site."""

    name: str
    about: str
    first: dict[Page, list[float]]
    warm: dict[Page, Load]
    asleep: Memory
    awake: Memory
    sites_awake: int  # at once, when `awake` was taken
    isolation: Isolation


class PeersReport(Report, frozen=True, kw_only=True):
    """`left_out`: who did not run on this machine, and why."""

    peers: list[Measured]
    left_out: dict[str, str]
    sites: int

    def show(self, console: Console) -> None:
        console.width = max(console.width, WIDTH)  # figures that are cut off are none
        console.print(f"peers on {self.machine}")
        for table in (_first(self.peers), _warm(self.peers), _memory(self.peers, self.sites), _isolation(self.peers)):
            console.print(table)
        for peer in self.peers:
            console.print(f"{peer.name}: {peer.about}", markup=False)
        for name, reason in self.left_out.items():
            console.print(f"{name} is left out: {reason}", markup=False)
        for name, ratio in self.ratios.items():
            console.print(f"{name}: {ratio:.2f}")


def report(found: Sequence[Measured], left_out: dict[str, str], sites: int) -> PeersReport:
    """Of a peer that is not there, no ratio is there either."""
    return PeersReport(
        name="peers",
        machine=machine(),
        results=[result for peer in found for result in _results(peer)],
        ratios=_ratios(found),
        peers=list(found),
        left_out=left_out,
        sites=sites,
    )


def _results(peer: Measured) -> list[Result]:
    def once(what: str, unit: str, value: float) -> Result:
        return Result(f"{peer.name}: {what}", unit, value, value, 1)

    found = [measured(f"{peer.name}: first request, {page}", "ms", peer.first[page]) for page in Page]
    for page in Page:
        load = peer.warm[page]
        found.append(once(f"warm, {page}", "requests/s", load.requests_per_s))
        found.append(Result(f"{peer.name}: warm latency, {page}", "ms", load.p50_ms, load.p99_ms, load.n))
    found.append(once("asleep, PSS", "MB", peer.asleep.pss_mb))
    found.append(once("awake, PSS", "MB", peer.awake.pss_mb))
    return found


def _ratios(found: Sequence[Measured]) -> dict[str, float]:
    ours = next((peer for peer in found if peer.name == OURS), None)
    if ours is None:
        return {}
    ratios = {}
    for peer in found:
        if peer is not ours:
            key = peer.name.lower().replace(", ", "_").replace(" ", "_").replace("-", "_")
            theirs, mine = (percentile(each.first[Page.DYNAMIC], 0.5) for each in (peer, ours))
            ratios[f"first_{key}_over_ours"] = theirs / mine
            warm = ours.warm[Page.DYNAMIC].requests_per_s / peer.warm[Page.DYNAMIC].requests_per_s
            ratios[f"warm_ours_over_{key}"] = warm
    return ratios


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _first(peers: Sequence[Measured]) -> Table:
    columns = [f"{page} {what}" for page in Page for what in ("p50", "p99", "n")]
    table = _table("first request to a site that is asleep, ms", "peer", *columns)
    for peer in peers:
        samples = [peer.first[page] for page in Page]
        cells = [
            cell
            for each in samples
            for cell in (f"{percentile(each, 0.5):,.1f}", f"{percentile(each, 0.99):,.1f}", str(len(each)))
        ]
        table.add_row(peer.name, *cells)
    return table


def _warm(peers: Sequence[Measured]) -> Table:
    columns = [f"{page} {what}" for page in Page for what in ("requests/s", "p50 ms", "p99 ms")]
    table = _table("one site under load, awake", "peer", *columns)
    for peer in peers:
        loads = [peer.warm[page] for page in Page]
        cells = [
            cell
            for load in loads
            for cell in (f"{load.requests_per_s:,.0f}", f"{load.p50_ms:,.1f}", f"{load.p99_ms:,.1f}")
        ]
        table.add_row(peer.name, *cells)
    return table


def _memory(peers: Sequence[Measured], sites: int) -> Table:
    title = f"memory of {sites} sites and what serves them, MB: PSS; by how much MemAvailable fell; processes"
    columns = [f"{state} {what}" for state in ("asleep", "awake") for what in ("PSS", "Avail", "procs")]
    table = _table(title, "peer", *columns, "awake")
    for peer in peers:
        cells = [
            cell
            for memory in (peer.asleep, peer.awake)
            for cell in (f"{memory.pss_mb:,.0f}", f"{memory.available_mb:,.0f}", str(memory.processes))
        ]
        table.add_row(peer.name, *cells, str(peer.sites_awake))
    return table


def _isolation(peers: Sequence[Measured]) -> Table:
    columns = list(peers[0].isolation.words()) if peers else []
    table = _table("isolation: what the kernel tells of a process that runs a site's code", "peer", *columns)
    for peer in peers:
        table.add_row(peer.name, *peer.isolation.words().values())
    return table
