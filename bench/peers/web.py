"""nginx in front of those who want one, with a server of its own for each site."""

from bench.peers.peer import Peer
from bench.peers.place import write

NGINX = "/usr/sbin/nginx"


def start_nginx(peer: Peer, template: str) -> None:
    """`template`: of a site's server block."""
    directory = peer.place.directory
    for site in peer.place.sites:
        write(template, directory / "servers" / f"{site.name}.conf", peer.place.words(site))
    config = write("nginx/nginx.conf", directory / "nginx.conf", peer.place.words())
    # Errors before the configuration is read go there, too, not to a directory of the system's.
    peer.family.start((NGINX, "-c", str(config), "-e", str(directory / "nginx.error.log")), directory / "nginx.out.log")
