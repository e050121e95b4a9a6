"""nginx and uWSGI's Emperor with on-demand vassals: a process tree for each site, executed when its socket is asked."""

import os

from bench.peers.peer import Peer
from bench.peers.place import write
from bench.peers.web import NGINX, start_nginx

UWSGI = "/usr/bin/uwsgi-core"


class Uwsgi(Peer):
    name = "uWSGI"
    about = "nginx and uWSGI's Emperor, on-demand vassals"
    needs = (NGINX, UWSGI, "/usr/lib/uwsgi/plugins/php_plugin.so")
    package = "nginx, uwsgi-emperor, uwsgi-plugin-php"
    worker = "uwsgi"

    def _start(self) -> None:
        place = self.place
        for site in place.sites:
            vassal = write("uwsgi/vassal.ini", place.directory / "vassals" / f"{site.name}.ini", place.words(site))
            os.chown(vassal, site.uid, site.uid)  # whom it runs as
            socket = place.directory / f"{site.name}.sock"
            vassal.with_name(f"{vassal.name}.socket").write_text(f"{socket}\n")
        config = write("uwsgi/emperor.ini", place.directory / "emperor.ini", place.words())
        self._master = self.family.start((UWSGI, "--ini", str(config)), place.directory / "uwsgi.log")
        sockets = [place.directory / f"{site.name}.sock" for site in place.sites]
        self.wait_until(lambda: all(path.exists() for path in sockets), 10, "the Emperor's sockets")
        for path in sockets:
            path.chmod(0o666)
        start_nginx(self, "uwsgi/server.conf")

    def workers(self) -> list[int]:
        """Without the Emperor."""
        return [pid for pid in super().workers() if pid != self._master.pid]
