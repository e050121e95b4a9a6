"""What a host would use instead, measured in one sitting: the same sites, pages and load for each.

For each peer in turn: all sites are woken once (awake memory), fall asleep (asleep memory), are visited one after the other while
asleep (first request), and one of them is loaded (warm). What cannot run on this machine is named, with the reason.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.coldstart.installation import terminable
from bench.peers.activated import Activated
from bench.peers.fastcontainer import Alone, FastContainer, Frozen
from bench.peers.passenger import Passenger
from bench.peers.peer import Peer, started
from bench.peers.phpfpm import PhpFpm
from bench.peers.place import Page, make_place
from bench.peers.podman import Podman
from bench.peers.report import Measured, PeersReport, report
from bench.peers.uwsgi import Uwsgi

PEERS: tuple[type[Peer], ...] = (FastContainer, Frozen, Alone, PhpFpm, Uwsgi, Passenger, Activated, Podman)


@dataclass(frozen=True, slots=True)
class Scale:
    sites: int
    idle_s: int
    rounds: int  # over all sites, of the dynamic page; one of the static one
    load_s: float
    load_before_s: float
    workers: int = 4  # of a site, under load


FULL, QUICK = Scale(50, 5, 2, 4.0, 2.0), Scale(3, 1, 1, 0.3, 0.2)


def run(quick: bool, peers: Sequence[type[Peer]] = PEERS) -> PeersReport:
    if os.geteuid() != 0:
        sys.exit("this bench needs root: its peers run each site as a user of its own, or in namespaces")
    scale = QUICK if quick else FULL
    found: list[Measured] = []
    left_out: dict[str, str] = {}
    for kind in peers:
        print(f"{kind.name}: {kind.about}", file=sys.stderr)
        reason = kind.why_not()
        if not reason:
            try:
                found.append(_measure(kind, scale))
            except (OSError, RuntimeError, ValueError) as error:  # what does not work here is told, not guessed
                traceback.print_exc()
                reason = f"{type(error).__name__}: {error}"
        if reason:
            left_out[kind.name] = reason
            print(f"{kind.name} is left out: {reason}", file=sys.stderr)
    return report(found, left_out, scale.sites)


def _measure(kind: type[Peer], scale: Scale) -> Measured:
    with ExitStack() as stack:
        stack.enter_context(terminable())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastcontainer-bench-")))
        directory.chmod(0o755)  # every site's user goes through it
        place = make_place(directory / "peer", scale.sites, scale.idle_s, scale.workers)
        peer = stack.enter_context(started(kind, place))
        sites_awake = peer.wake_all()
        awake, isolation = peer.memory(), peer.isolation()
        peer.sleep()
        peer.settle()
        asleep = peer.memory()
        first = {
            Page.DYNAMIC: [ms for _ in range(scale.rounds) for ms in _first(peer, Page.DYNAMIC)],
            Page.STATIC: _first(peer, Page.STATIC),
        }
        warm = {page: peer.warm(place.sites[0], page, scale.load_s, scale.load_before_s) for page in Page}
    return Measured(kind.name, kind.about, first, warm, asleep, awake, sites_awake, isolation)


def _first(peer: Peer, page: Page) -> list[float]:
    """One for each site."""
    peer.sleep()
    found = []
    for site in peer.place.sites:
        peer.settle()
        found.append(peer.first(site, page))
    return found
