"""Phusion Passenger in Apache. It runs Ruby, Python and Node, not PHP: the same page in Python (site/page.wsgi)."""

import os
import sys

from bench.peers.passenger.users import write_users
from bench.peers.peer import Peer
from bench.peers.place import write

APACHE = "/usr/sbin/apache2"
ROOT = "/usr/lib/ruby/vendor_ruby/phusion_passenger/locations.ini"
PYTHON = "/usr/bin/python3"


class Passenger(Peer):
    name = "Passenger"
    about = "Apache (event) with Passenger; the page in Python"
    needs = (APACHE, "/usr/lib/apache2/modules/mod_passenger.so", ROOT, PYTHON)
    package = "apache2, libapache2-mod-passenger, python3"
    worker = "python3"

    def _start(self) -> None:
        place = self.place
        registry = place.directory / "registry"
        registry.mkdir()
        for site in place.sites:
            page = write("site/page.wsgi", site.root / "passenger_wsgi.py", place.words(site))
            public = site.root / "public"
            public.mkdir()
            (site.root / "page.html").rename(public / "page.html")
            for path in (page, public):
                os.chown(path, site.uid, site.uid)
            write("passenger/server.conf", place.directory / "servers" / f"{site.name}.conf", place.words(site))
        words = place.words() | {
            "pool_max": str(len(place.sites) + place.workers),
            "passenger_root": ROOT,
            "python": PYTHON,
        }
        config = write("passenger/httpd.conf", place.directory / "httpd.conf", words)
        users = place.directory / "users"
        write_users(place.sites, users)
        command = (
            sys.executable,
            "-m",
            "bench.peers.passenger.users",
            str(users),
            "--",
            APACHE,
            "-f",
            str(config),
            "-D",
            "FOREGROUND",
        )
        self.family.start(command, place.directory / "apache.out.log")
        self.wait_until(lambda: any(registry.iterdir()), 10, "Passenger's registry")
