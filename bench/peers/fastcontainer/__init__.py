"""FastContainer itself, with the very Apache that podman's containers have: stopped when it sleeps, or frozen; through the UserLB,
or through the UserProxy alone, as where there is no HAProxy."""

import os
import signal
from typing import ClassVar

from msgspec import structs

from bench.coldstart.installation import END_S, Installation, script
from bench.coldstart.theirs import HOST
from bench.coldstart.visit import Address, is_open
from bench.peers.family import Family
from bench.peers.peer import Peer, name_of
from bench.peers.place import Place, write
from containerlib import cgroups
from dispatcher.domain import AppSpec, Mount, Policy, Start
from dispatcher.settings import host_port

INSIDE = "/srv/site"
MEMORY = "256M"
LIFE_S = 86_400.0


class Host(Installation):
    """Everything as ./quickstart starts it, with a place's sites."""

    def __init__(self, place: Place, start: Start, *, has_lanes: bool) -> None:
        super().__init__(place.directory / "installation", tuple(site.name for site in place.sites))
        # Another bench may run beside this one, and the other kind of ours has just been: links are named by address.
        self.settings = structs.replace(
            self.settings,
            network=network(os.getpid(), start),
            userlb_listen=f"{HOST}:{place.port}" if has_lanes else "off",
        )
        self.words = {"memory": MEMORY}
        self._place = place
        self._has_lanes = has_lanes
        self._policy = Policy(start=start, idle_s=float(place.idle_s), lifespan_s=LIFE_S)

    @property
    def front(self) -> Address:
        return host_port(self.settings.userlb_listen) if self._has_lanes else self.proxy_address

    def start(self, page: bytes) -> None:
        super().start(page)
        if self._has_lanes:
            self._start("userlb", (script("fastcontainer"), "userlb"))
            self.wait_until(lambda: is_open(self.front), "userlb")

    def stop(self) -> None:
        try:
            if userlb := self.processes.get("userlb"):
                userlb.send_signal(signal.SIGINT)  # HAProxy ends with it
                userlb.wait(END_S)
        finally:
            super().stop()

    def spec(self, app: str) -> AppSpec:
        site = next(site for site in self._place.sites if site.name == app)
        return AppSpec(
            command=("/usr/sbin/apache2", "-f", f"{INSIDE}/httpd.conf", "-D", "FOREGROUND"),
            mounts=(Mount(str(site.root), INSIDE, readonly=True),),
            policy=self._policy,
        )


def network(pid: int, start: Start) -> str:
    """Pure: 1,022 addresses, next to those of the other benches."""
    return f"100.97.{pid % 32 * 8 + 4 * (start is Start.FROZEN)}.0/22"


class FastContainer(Peer):
    name = "FastContainer"
    about = "UserLB (HAProxy's lanes), UserProxy, a container with Apache and mod_php; asleep: stopped"
    needs: ClassVar[tuple[str, ...]] = ("/usr/sbin/apache2", "/usr/bin/etcd", "/usr/sbin/haproxy")
    package = "etcd-server, apache2, libapache2-mod-php, haproxy"
    worker = "apache2"
    start_as: ClassVar[Start] = Start.COLD
    has_lanes: ClassVar[bool] = True

    def __init__(self, place: Place, family: Family) -> None:
        super().__init__(place, family)
        self._host = Host(place, self.start_as, has_lanes=self.has_lanes)

    def _start(self) -> None:
        place = self.place
        for site in place.sites:
            words = place.words(site) | {"listen": "0.0.0.0:80", "apache_workers": str(2 * place.workers)}
            write("site/httpd.conf", site.root / "httpd.conf", words)
        self._host.start(b"")

    def address(self, site: object) -> Address:
        return self._host.front

    def awake(self) -> int:
        """Containers with a server that is not frozen."""
        tree = cgroups.find(self._host.settings.cgroup)
        groups = [tree.group(name) for name in tree.names()]
        return sum(
            1
            for group in groups
            if any(name_of(pid).startswith(self.worker) for pid in group.processes()) and not group.is_frozen()
        )

    def stop(self) -> None:
        try:
            self._host.stop()
        finally:
            super().stop()


class Frozen(FastContainer):
    name = "FastContainer, frozen"
    about = "the same; asleep: its processes frozen"
    start_as = Start.FROZEN


class Alone(FastContainer):
    name = "FastContainer, no lanes"
    about = "the same without HAProxy; asleep: stopped"
    needs = FastContainer.needs[:2]
    has_lanes = False
