import os
import re
from pathlib import Path

import pytest

from bench.peers.fastcontainer import network
from bench.peers.place import PORT_FIRST, TEMPLATES, Page, Place, Site, filled, free_ports, static_page, write
from dispatcher.domain import Start

SITE = Site(7, Path("/the/site07"), 21_001, 21_002)
PLACE = Place(Path("/the"), (SITE,), 21_000, 5, 4)
# What a peer adds to the words of a place and a site.
ADDED = {"proxyd", "pool_max", "passenger_root", "python", "listen", "apache_workers"}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("listen {{port}};", "listen 21000;"),
        ("{{name}} {{domain}} {{inner_port}}", "site07 site07.localhost 21002"),
        ("$host {x} { {name} }", "$host {x} { {name} }"),  # nginx's own words
    ],
)
def test_templates_are_filled(template: str, text: str) -> None:
    assert filled(template, PLACE.words(SITE)) == text


def test_an_unknown_word_is_an_error() -> None:
    with pytest.raises(KeyError, match="prot"):
        filled("{{prot}}", PLACE.words(SITE))


TEMPLATE_FILES = sorted(
    str(path.relative_to(TEMPLATES)) for path in TEMPLATES.glob("*/*.*") if path.suffix not in (".py", ".pyc")
)


@pytest.mark.parametrize("name", TEMPLATE_FILES)
def test_every_template_is_filled_wholly(name: str, tmp_path: Path) -> None:
    words = PLACE.words(SITE) | dict.fromkeys(ADDED, "x")
    text = write(name, tmp_path / "sub" / "file", words).read_text()
    assert "{{" not in text.replace("{{{", "") and len(text) > 100


def test_both_pages_name_their_site_alone() -> None:
    page = static_page(SITE)
    assert SITE.marker in page and len(page) > 2000
    assert static_page(Site(8, Path("/x"), 1, 2)).count("site07") == 0
    assert {each.path for each in Page} == {"/", "/page.html"}


def test_sites_differ_in_all_that_tells_them_apart() -> None:
    other = Site(8, Path("/the/site08"), 21_003, 21_004)
    for name in ("name", "domain", "uid", "marker"):
        assert getattr(SITE, name) != getattr(other, name)


def test_ports_are_free_different_and_nobody_s_who_connects() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = free_ports(101, PORT_FIRST)
    assert len(set(ports)) == 101 and min(ports) >= PORT_FIRST
    assert not any(first <= port <= last for port in ports)


def test_two_benches_have_two_networks() -> None:
    found = {network(pid, start) for pid in (os.getpid(), os.getpid() + 1) for start in (Start.COLD, Start.FROZEN)}
    assert len(found) == 4
    assert all(re.fullmatch(r"100\.97\.\d+\.0/22", each) for each in found)
