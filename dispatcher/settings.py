"""What a process of this system must know before it can reach the CMDB: one small file, environment on top.

Read from $FASTCONTAINER_CONFIG, else /etc/fastcontainer/fastcontainer.toml, else the defaults; a variable
FASTCONTAINER_NAME overrides the key `name`. An unknown key or a value of the wrong type is refused with its name.
"""

import os
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

DEFAULT_PATH = Path("/etc/fastcontainer/fastcontainer.toml")


WORKERS_MAX = 64
METRICS_STEP = 10  # between the ports of two workers' metrics: next to the first one's are those of others


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    compute: str = ""  # name of this host in the CMDB; its host name unless given
    etcd: tuple[str, ...] = ("127.0.0.1:2379",)
    etcd_user: str = ""
    etcd_password_file: str = ""
    etcd_ca: str = ""  # PEM files; a CA turns TLS on
    etcd_cert: str = ""
    etcd_key: str = ""
    run_dir: str = "/run/fastcontainer"
    state_dir: str = "/var/lib/fastcontainer"
    image_dir: str = "/var/lib/fastcontainer-containers/roots"  # where `fastcontainer container create` builds images
    definition_dir: str = "/etc/fastcontainer/definitions"  # *.py: what apps may name as their definition
    log_dir: str = "/var/log/fastcontainer"
    userproxy_listen: str = "127.0.0.1:8080"
    userproxy_workers: int = 1  # UserProxies of this host: see `of_worker`
    webdispatcher_listen: str = "127.0.0.1:8081"
    userlb_listen: str = ""  # HOST:PORT of the UserLB; "off": none; absent: ./quickstart chooses (docs/lanes.md)
    userlb_secure_listen: str = ""  # HOST:PORT where it takes TLS; absent: nowhere
    certificate_dir: str = (
        "/etc/fastcontainer/certificates"  # NAME.pem: certificate, chain and key, for the UserLB's user
    )
    proxy_protocol: tuple[str, ...] = ()  # networks of balancers that begin each connection with the PROXY protocol
    client_requests_per_s: int = 0  # of one client's address, over all apps; 0: any number
    client_connections: int = 0  # of one client's address, open at once; 0: any number
    userproxy_metrics: str = "127.0.0.1:9180"
    webdispatcher_metrics: str = "127.0.0.1:9181"
    agent_metrics: str = "127.0.0.1:9182"
    userlb_metrics: str = "127.0.0.1:9183"
    trusted_proxies: tuple[str, ...] = ()  # networks whose X-Forwarded-* are believed
    userlbs: tuple[
        str, ...
    ] = ()  # networks of our UserLBs: a UserProxy leaves the X-Forwarded-* that they wrote as they are
    short_cut: bool = True  # a UserProxy on a Compute asks its agent itself instead of going through the Web Dispatcher
    route_key_file: str = ""  # shared secret of UserProxies and Web Dispatchers; RUN_DIR/route.key unless given
    proxy_user: str = "fastcontainer"  # runs userproxy and webdispatcher
    network: str = "100.96.0.0/16"  # containers' addresses on this Compute; its first address is the host's
    cgroup: str = "fastcontainer"  # name of our cgroup under the one that the agent may use
    blanks: int = 4  # prepared processes kept in reserve
    held_max: int = 10_000  # requests that wait in one proxy, all apps together

    def __post_init__(self) -> None:
        if not 1 <= self.userproxy_workers <= WORKERS_MAX:
            raise ValueError(f"userproxy_workers is a number from 1 to {WORKERS_MAX}, not {self.userproxy_workers}")

    def of_worker(self, number: int) -> "Settings":
        """What the UserProxy `number` is told, from 1 on: consecutive ports to listen at, each tenth one for metrics. Raises
        ValueError."""
        return msgspec.structs.replace(
            self,
            userproxy_workers=1,
            userproxy_listen=_above(self.userproxy_listen, number - 1),
            userproxy_metrics=_above(self.userproxy_metrics, (number - 1) * METRICS_STEP),
        )

    @property
    def userproxies(self) -> "tuple[Settings, ...]":
        """Of each worker. Raises ValueError."""
        return tuple(self.of_worker(number + 1) for number in range(self.userproxy_workers))

    @property
    def listeners(self) -> list[tuple[str, str]]:
        """Who listens at which address, each by the setting that says so. Raises ValueError."""
        return [
            *([("userlb_listen", self.userlb_listen)] if self.userlb_listen not in ("", "off") else []),
            *(("userproxy_listen", each.userproxy_listen) for each in self.userproxies),
            ("webdispatcher_listen", self.webdispatcher_listen),
            *(("userproxy_metrics", each.userproxy_metrics) for each in self.userproxies),
            ("webdispatcher_metrics", self.webdispatcher_metrics),
            ("agent_metrics", self.agent_metrics),
            *([("userlb_metrics", self.userlb_metrics)] if self.userlb_listen not in ("", "off") else []),
        ]

    def check_listeners(self) -> None:
        """Raises ValueError where two would have the same address: several workers take more ports than are named."""
        holders: dict[str, str] = {}
        for setting, address in self.listeners:
            if (holder := holders.setdefault(address, setting)) != setting:
                raise ValueError(
                    f"{self.userproxy_workers} workers: {setting} and {holder} both come to {address}; move one of them"
                )

    @property
    def agent_socket(self) -> str:
        return f"{self.run_dir}/agent.sock"

    @property
    def launcher_socket(self) -> str:
        return f"{self.run_dir}/launcher.sock"

    @property
    def files_socket(self) -> str:
        return f"{self.userlb_dir}/files.sock"

    @property
    def userlb_dir(self) -> str:
        return f"{self.run_dir}/userlb"

    @property
    def route_key_path(self) -> str:
        return self.route_key_file or f"{self.run_dir}/route.key"


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Raises ValueError that names the file or variable, the key and the rule."""
    path = Path(environ.get("FASTCONTAINER_CONFIG", DEFAULT_PATH))
    values: dict[str, Any] = {}
    if path.exists():
        try:
            values = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path}: {error}") from error
    elif "FASTCONTAINER_CONFIG" in environ:
        raise ValueError(f"FASTCONTAINER_CONFIG={path}: no such file")
    for field in msgspec.structs.fields(Settings):
        word = environ.get(f"FASTCONTAINER_{field.name.upper()}")
        if word is not None:
            values[field.name] = word.split(",") if field.type == tuple[str, ...] else word
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path}: {error}") from error
    return settings if settings.compute else msgspec.structs.replace(settings, compute=socket.gethostname())


def _above(address: str, ports: int) -> str:
    _, port = host_port(address)
    if port + ports > 65535:
        raise ValueError(f"{address}: there is no port {ports} above it")
    return f"{address.rpartition(':')[0]}:{port + ports}"


def host_port(word: str) -> tuple[str, int]:
    """ "127.0.0.1:8080" or "[::1]:8080"; raises ValueError."""
    host, separator, port = word.rpartition(":")
    if not separator or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{word!r} is not HOST:PORT")
    return host.strip("[]"), int(port)
