"""systemd-socket-activate, systemd-socket-proxyd and `php -S` behind it.

There need not be a systemd that runs this machine: the bench does what it would do, which is to end the site's server when its
proxy ends (StopWhenUnneeded=, KillMode=control-group) and to listen again.
"""

import subprocess
import threading
from pathlib import Path

from bench.coldstart.theirs import HOST
from bench.coldstart.visit import Address
from bench.peers.family import Family
from bench.peers.peer import LOOK_EVERY_S, Peer
from bench.peers.place import Place, Site, write

ACTIVATE = "/usr/bin/systemd-socket-activate"
PROXYD = "/usr/lib/systemd/systemd-socket-proxyd"


class Activated(Peer):
    name = "systemd"
    about = "systemd-socket-activate, systemd-socket-proxyd, php -S"
    needs = (ACTIVATE, PROXYD, "/usr/bin/php", "/usr/bin/setpriv")
    package = "systemd, php-cli"
    worker = "php"
    closes = True

    def __init__(self, place: Place, family: Family) -> None:
        super().__init__(place, family)
        self._units: dict[Site, subprocess.Popen[bytes]] = {}
        self._is_over = threading.Event()
        self._systemd = threading.Thread(target=self._look_after, name="in systemd's place")

    def _start(self) -> None:
        for site in self.place.sites:
            words = self.place.words(site) | {"proxyd": PROXYD}
            write("activated/activated.sh", self._script(site), words).chmod(0o755)
            self._listen(site)
        self._systemd.start()

    def _script(self, site: Site) -> Path:
        return self.place.directory / f"{site.name}.sh"

    def _listen(self, site: Site) -> None:
        host, port = self.address(site)
        words = (ACTIVATE, f"--listen={host}:{port}", str(self._script(site)))
        self._units[site] = self.family.start(words, self.place.directory / "units.log")

    def address(self, site: Site) -> Address:
        return HOST, site.port

    def _look_after(self) -> None:
        """What systemd does when a proxy has ended."""
        while not self._is_over.wait(LOOK_EVERY_S):
            for site, unit in self._units.items():
                if unit.poll() is not None:
                    self.family.kill(self.family.session(unit.pid))
                    self._listen(site)

    def stop(self) -> None:
        self._is_over.set()
        if self._systemd.is_alive():
            self._systemd.join()
        super().stop()
