"""One picture of all peers: time of the first request, requests per second, memory, isolation; a row for each peer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from bench.peers.place import Page
from bench.peers.report import OURS, Measured, PeersReport
from bench.results import percentile

INK, FAINT = "#333344", "#d8d8de"
OURS_COLOUR, THEIRS_COLOUR = "#d9730d", "#4a6fa5"
STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": INK, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "svg.fonttype": "none", "svg.hashsalt": "peers", "font.family": "sans-serif",
}  # fmt: skip
HEIGHT = 0.36  # of a bar; a row is 1


def draw(report: PeersReport, target: Path) -> None:
    """`target`'s ending says the format: .svg or .png. Raises ValueError if there is nobody to be drawn."""
    if not report.peers:
        raise ValueError("no peer was measured: there is nothing to draw")
    peers = report.peers
    with rc_context(STYLE):
        sheet = Figure(figsize=(12, 1.5 + 0.5 * len(peers)), layout="constrained")
        first, warm, memory, isolation = sheet.subplots(1, 4, sharey=True, width_ratios=(3, 3, 3, 2.6))
        _first(first, peers)
        _warm(warm, peers)
        _memory(memory, peers, report.sites)
        _isolation(isolation, peers)
        first.set_yticks(range(len(peers)), [peer.name for peer in peers])
        first.set_ylim(len(peers) - 0.4, -0.6)  # the first on top
        sheet.suptitle(f"{report.sites} sites on {report.machine}", fontsize=8.5, x=0.01, ha="left")
        sheet.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)


def figure(value: float) -> str:
    """Pure: three digits that count, never an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _colours(peers: Sequence[Measured]) -> list[str]:
    return [OURS_COLOUR if peer.name.startswith(OURS) else THEIRS_COLOUR for peer in peers]


def _pairs(axes: Axes, peers: Sequence[Measured], upper: Sequence[float], lower: Sequence[float]) -> None:
    """Two bars for each peer, the lower one paler."""
    colours = _colours(peers)
    for values, offset, alpha in ((upper, -HEIGHT / 2, 1.0), (lower, HEIGHT / 2, 0.45)):
        places = [row + offset for row in range(len(peers))]
        bars = axes.barh(places, values, HEIGHT, color=colours, alpha=alpha)
        axes.bar_label(bars, labels=[figure(value) for value in values], padding=3, fontsize=7.5)
    axes.set_xscale("log")
    axes.margins(x=0)
    least, most = min(*upper, *lower), max(*upper, *lower)
    axes.set_xlim(least / 2, most * 4)  # with room for the figures
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def _first(axes: Axes, peers: Sequence[Measured]) -> None:
    p50, p99 = ([percentile(peer.first[Page.DYNAMIC], share) for peer in peers] for share in (0.5, 0.99))
    _pairs(axes, peers, p50, p99)
    axes.set_title("first request, ms: less is better\np50, pale p99")


def _warm(axes: Axes, peers: Sequence[Measured]) -> None:
    dynamic, static = ([peer.warm[page].requests_per_s for peer in peers] for page in (Page.DYNAMIC, Page.STATIC))
    _pairs(axes, peers, dynamic, static)
    axes.set_title("requests/s, awake: more is better\ndynamic page, pale static")


def _memory(axes: Axes, peers: Sequence[Measured], sites: int) -> None:
    _pairs(axes, peers, [peer.asleep.pss_mb for peer in peers], [peer.awake.pss_mb for peer in peers])
    axes.set_title(f"MB (PSS) of {sites} sites: less is better\nasleep, pale awake")


def _isolation(axes: Axes, peers: Sequence[Measured]) -> None:
    """A dot for what a site has of its own; nothing where it shares it with the host or its neighbours."""
    columns = list(peers[0].isolation.words())
    for row, peer in enumerate(peers):
        words = peer.isolation.words()
        for at, column in enumerate(columns):
            has = words[column] not in ("-", "shared", "root")
            axes.plot(
                at,
                row,
                "o",
                markersize=6,
                color=_colours([peer])[0] if has else FAINT,
                fillstyle="full" if has else "none",
            )
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="left", fontsize=7.5)
    axes.xaxis.tick_top()
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("a site's own, as the kernel tells it")
