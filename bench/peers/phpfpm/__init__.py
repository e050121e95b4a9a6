"""nginx and php-fpm with `pm = ondemand`: one master for all, which forks a site's worker when its socket is asked."""

from pathlib import Path

from bench.peers.peer import Peer
from bench.peers.place import write
from bench.peers.web import NGINX, start_nginx


def program() -> str:
    """Its name has PHP's version in it; the newest."""
    return max((str(path) for path in Path("/usr/sbin").glob("php-fpm*")), default="/usr/sbin/php-fpm")


class PhpFpm(Peer):
    name = "php-fpm"
    about = "nginx and php-fpm, pm = ondemand"
    needs = (NGINX, program())
    package = "nginx, php-fpm"
    worker = "php-fpm"

    def _start(self) -> None:
        place = self.place
        for site in place.sites:
            write("phpfpm/pool.conf", place.directory / "pools" / f"{site.name}.conf", place.words(site))
        config = write("phpfpm/php-fpm.conf", place.directory / "php-fpm.conf", place.words())
        # opcache lies in one shared memory of the master: a file that a user may not read is not taken from it either
        # (php.net/manual/en/opcache.configuration.php, opcache.validate_permission).
        words = (program(), "--nodaemonize", "--allow-to-run-as-root", "--fpm-config", str(config))
        self._master = self.family.start(
            (*words, "-d", "opcache.validate_permission=1"), place.directory / "php-fpm.out.log"
        )
        sockets = [place.directory / f"{site.name}.sock" for site in place.sites]
        self.wait_until(lambda: all(path.exists() for path in sockets), 10, "php-fpm's sockets")
        start_nginx(self, "phpfpm/server.conf")

    def workers(self) -> list[int]:
        """Without the master."""
        return [pid for pid in super().workers() if pid != self._master.pid]
