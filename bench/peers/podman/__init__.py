"""podman behind nginx: a container for each site, on a directory as its root and the host's /usr, as coldstart has it.

Nothing of it wakes anybody: the bench runs `podman run` itself, and a first request is counted from there, as though whoever does
it on a host noticed at once. It sleeps by `podman rm`. The host's network, so that no bridge and no firewall rule is made here.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

from bench.coldstart import bundle
from bench.coldstart.theirs import HOST, make_root, remove_groups
from bench.coldstart.visit import PATIENCE_S
from bench.peers.family import Family
from bench.peers.peer import Peer, is_listening
from bench.peers.place import Place, Site, write
from bench.peers.web import NGINX, start_nginx

MEMORY = "256m"
GROUP = f"fastcontainer-bench-{os.getpid()}-peers"
RUN = Path("/run", GROUP)
USER = "33:33"  # www-data, in each container the same: the host's user namespace
MOUNTED = ("/usr", "/etc/apache2", "/etc/php", "/etc/mime.types", "/etc/passwd", "/etc/group", "/etc/alternatives")


class Podman(Peer):
    name = "podman"
    about = "nginx and podman run (Apache, mod_php); woken by hand"
    needs = (NGINX, "/usr/bin/podman", "/usr/sbin/runc", "/usr/sbin/apache2")
    package = "nginx, podman, runc"
    worker = "apache2"

    def __init__(self, place: Place, family: Family) -> None:
        super().__init__(place, family)
        self._podman = bundle.podman(str(place.directory / "podman"), str(RUN))

    def _start(self) -> None:
        place = self.place
        make_root(place.directory / "root")
        (place.directory / "root/tmp").chmod(0o1777)  # as the tmpfs over it will be
        for site in place.sites:
            words = place.words(site) | {
                "listen": f"{HOST}:{site.inner_port}",
                "apache_workers": str(2 * place.workers),
            }
            write("site/httpd.conf", site.root / "httpd.conf", words)
        start_nginx(self, "podman/server.conf")

    def wake(self, site: Site) -> None:
        """Returns when Apache listens; nginx would answer 502 before. Nothing is done for one that is awake."""
        if is_listening(site.inner_port):
            return
        process = self.family.start((*self._podman, *self._run(site)), self.place.directory / "podman.log")
        deadline = time.monotonic() + PATIENCE_S
        while not is_listening(site.inner_port):
            if process.poll() not in (0, None) or time.monotonic() > deadline:
                raise RuntimeError(f"podman run of {site.name}:\n{self.logs()}")
            time.sleep(0.001)

    def _run(self, site: Site) -> tuple[str, ...]:
        log = self.place.directory / f"{site.name}.log"
        binds = [word for path in MOUNTED for word in ("--volume", f"{path}:{path}:ro")]
        return (
            "run", "--detach", "--rm", "--name", site.name, "--network", "host", "--cgroup-parent", f"/{GROUP}",
            "--user", USER, "--read-only", "--tmpfs", "/tmp:rw,size=64m", "--security-opt", "no-new-privileges", "--memory", MEMORY,
            "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--log-driver", "k8s-file", "--log-opt", f"path={log}",
            *binds, "--volume", f"{site.root}:/srv/site:ro", "--rootfs", str(self.place.directory / "root"),
            "/usr/sbin/apache2", "-f", "/srv/site/httpd.conf", "-D", "FOREGROUND",
        )  # fmt: skip

    def sleep(self) -> None:
        if self.workers():
            self._remove()
        super().sleep()

    def _remove(self) -> None:
        words = (*self._podman, "rm", "--all", "--force", "--time", "1")
        subprocess.run(words, check=False, capture_output=True)

    def stop(self) -> None:
        self._remove()
        super().stop()
        remove_groups(GROUP)
        shutil.rmtree(RUN, ignore_errors=True)
