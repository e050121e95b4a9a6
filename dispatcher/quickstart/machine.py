"""What the processes find on this machine: user, directories, shared secret, configuration, and free ports."""

import errno
import os
import pwd
import resource
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

from dispatcher.quickstart import cgroup
from dispatcher.quickstart.programs import (
    ETCD_USER,
    config_path,
    config_text,
    control_socket,
    etcd_dir,
    programs,
    setting_of_front,
    supervisor_text,
)
from dispatcher.settings import Settings, host_port

OPEN_FILES_WANTED = 65_536
ROUTE_KEY_BYTES = 32


def listeners(settings: Settings) -> list[tuple[str, str]]:
    """Who will listen where, each with the name of the setting that says so."""
    front = [(setting_of_front(settings), settings.userlb_listen)] if settings.userlb_listen else []
    if settings.userlb_listen and settings.userlb_secure_listen:
        front.append(("userlb_secure_listen", settings.userlb_secure_listen))
    return [
        *front,
        ("etcd", settings.etcd[0]),
        *(("userproxy_listen", each.userproxy_listen) for each in settings.userproxies),
        ("webdispatcher_listen", settings.webdispatcher_listen),
        *(("userproxy_metrics", each.userproxy_metrics) for each in settings.userproxies),
        ("webdispatcher_metrics", settings.webdispatcher_metrics),
        ("agent_metrics", settings.agent_metrics),
        *([("userlb_metrics", settings.userlb_metrics)] if settings.userlb_listen else []),
    ]


def taken_ports(settings: Settings) -> list[str]:
    """One line for each address that somebody else holds."""
    return [
        f"{address} is taken{_holder(address)}: stop that, or choose another with FASTCONTAINER_{name.upper()}=HOST:PORT"
        for name, address in listeners(settings)
        if not _can_bind(*host_port(address))
    ]


def _can_bind(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do; without it what is left of closed connections would look like somebody.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def _holder(address: str) -> str:
    import psutil

    port = host_port(address)[1]
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,) and connection.pid:
            try:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.NoSuchProcess:
                return ""
    return ""


def ensure_user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--home-dir", "/nonexistent", "--no-create-home"]
        subprocess.run([*command, "--shell", "/usr/sbin/nologin", name], check=True)
        return pwd.getpwnam(name)


def prepare(settings: Settings, venv_bin: Path) -> Path:
    """Returns the path of supervisor's configuration."""
    proxy = ensure_user(settings.proxy_user)
    for path in (settings.run_dir, settings.state_dir):
        _directory(Path(path), 0o755, 0, 0)
    # Last words of sites and paths of requests, tokens in them included, are no business of the machine's other users.
    _directory(Path(settings.log_dir), 0o750, 0, proxy.pw_gid)
    _directory(control_socket(settings).parent, 0o700, 0, 0)
    _directory(Path(settings.log_dir, "access"), 0o750, proxy.pw_uid, proxy.pw_gid)  # where the proxies may make files
    if settings.userlb_listen:
        _directory(Path(settings.userlb_dir), 0o700, proxy.pw_uid, proxy.pw_gid)
    etcd = pwd.getpwnam(ETCD_USER)
    _directory(etcd_dir(settings), 0o700, etcd.pw_uid, etcd.pw_gid)
    _write(config_path(settings), config_text(settings).encode(), 0o644, 0)
    key = Path(settings.route_key_path)
    if not key.exists():
        _write(key, secrets.token_bytes(ROUTE_KEY_BYTES), 0o640, proxy.pw_gid)
    _write(started_in(settings), cgroup.own_groups().encode(), 0o600, 0)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    open_files_max = OPEN_FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_WANTED)
    config = control_socket(settings).parent / "supervisord.conf"
    text = supervisor_text(settings, programs(settings, venv_bin), venv_bin, open_files_max)
    _write(config, text.encode(), 0o600, 0)
    return config


def started_in(settings: Settings) -> Path:
    """The file that keeps the control groups of the process manager."""
    return control_socket(settings).parent / "cgroup"


def _directory(path: Path, mode: int, uid: int, gid: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    os.chown(path, uid, gid)


def _write(path: Path, content: bytes, mode: int, gid: int) -> None:
    """Never readable by more than it should be, not even while it is being written."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchown(descriptor, 0, gid)
        os.fchmod(descriptor, mode)
        file.write(content)


def mounts_below(path: str, mountinfo: str) -> list[str]:
    """Mount points at or below `path`, the deepest first."""
    points = [line.split(" ")[4].replace("\\040", " ") for line in mountinfo.splitlines()]
    return sorted((point for point in points if point == path or point.startswith(f"{path}/")), reverse=True)


def remove_tree(path: str) -> None:
    """Refuses while something is mounted below: that content is not ours."""
    points = mounts_below(path, Path("/proc/self/mountinfo").read_text())
    if points:
        raise OSError(errno.EBUSY, f"still mounted: {', '.join(points)}", path)
    if Path(path).exists():
        shutil.rmtree(path)
