"""Where one peer's sites lie: directories, pages and configuration made from the templates beside each peer."""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bench.coldstart.theirs import HOST

TEMPLATES = Path(__file__).parent
UID_BASE = 90_000  # of the sites' users, who are in no passwd file; site N runs as UID_BASE + N
STATIC_BYTES = 2560
PORT_FIRST, PORT_LAST = 21_000, 31_999
PORT_RANGES, PORT_RANGE = 50, 210


class Page(StrEnum):
    DYNAMIC = "dynamic"  # PHP, or what the peer runs in its place
    STATIC = "static"

    @property
    def path(self) -> str:
        return "/" if self is Page.DYNAMIC else "/page.html"


@dataclass(frozen=True, slots=True)
class Site:
    number: int
    root: Path
    port: int  # of the site's own, where a peer's sites have no front in common
    inner_port: int  # of its server behind that

    @property
    def name(self) -> str:
        return f"site{self.number:02}"

    @property
    def domain(self) -> str:
        return f"{self.name}.localhost"

    @property
    def uid(self) -> int:
        return UID_BASE + self.number

    @property
    def marker(self) -> str:
        """In both of its pages, and in no other site's."""
        return f"The page of {self.name}."


@dataclass(frozen=True, slots=True)
class Place:
    """A peer's own directory, which users other than root may pass; `port` is its front's."""

    directory: Path
    sites: tuple[Site, ...]
    port: int
    idle_s: int
    workers: int  # of one site at most

    def words(self, site: Site | None = None) -> dict[str, str]:
        """What the templates may name."""
        words = {
            "directory": str(self.directory),
            "port": str(self.port),
            "idle_s": str(self.idle_s),
            "workers": str(self.workers),
        }
        if site is not None:
            words |= {
                "name": site.name, "domain": site.domain, "root": str(site.root), "uid": str(site.uid), "marker": site.marker,
                "inner_port": str(site.inner_port),
            }  # fmt: skip
        return words


def filled(template: str, words: Mapping[str, str]) -> str:
    """Pure: {{name}} by words[name]; raises KeyError for one that is not there."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: words[match[1]], template)


def write(template: str, target: Path, words: Mapping[str, str]) -> Path:
    """`template` as a path below this package."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(filled((TEMPLATES / template).read_text(), words))
    return target


def static_page(site: Site) -> str:
    """Pure: as long as the other page."""
    head = f"<!doctype html><title>{site.marker}</title><h1>{site.marker}</h1><pre>\n"
    line = "It is the same every time, and nobody has to think about it.\n"
    return (head + line * (STATIC_BYTES // len(line)))[:STATIC_BYTES]


def make_place(directory: Path, count: int, idle_s: int, workers: int) -> Place:
    """With everything of the sites but what a peer itself wants."""
    directory.mkdir(mode=0o755)
    ports = free_ports(2 * count + 1, PORT_FIRST + os.getpid() % PORT_RANGES * PORT_RANGE)
    roots = directory / "www"
    sites = tuple(
        Site(number, roots / f"site{number:02}", ports[2 * number], ports[2 * number + 1]) for number in range(count)
    )
    place = Place(directory, sites, ports[-1], idle_s, workers)
    for site in sites:
        words = place.words(site)
        write("site/index.php", site.root / "index.php", words)
        write("site/layout.php", site.root / "layout.php", words)
        (site.root / "page.html").write_text(static_page(site))
        for path in (site.root, *site.root.iterdir()):
            os.chown(path, site.uid, site.uid)
    return place


def free_ports(count: int, first: int) -> list[int]:
    """Below those that the kernel gives to clients: nobody's connection takes the port of a server that sleeps. Nor does another
    bench, which begins elsewhere."""
    found: list[int] = []
    for port in range(first, PORT_LAST + 1):
        if len(found) == count:
            return found
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
    raise RuntimeError(f"no {count} ports are free between {first} and {PORT_LAST}")
