"""What runs, as whom and how, and the two files that say so: supervisor's configuration and our own. Pure."""

import configparser
import io
import json
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dispatcher.settings import Settings, host_port

CHECKOUT = Path(__file__).parents[2]
PROXY_STOP_WAIT_S = 15  # a proxy lets what is under way end, for ten seconds at most
# Of transactions between snapshots; etcd has them in memory, and 5,000 more. 3.4 has 100,000 by default, 3.6 this.
ETCD_SNAPSHOT_COUNT = 10_000
ETCD_USER = "etcd"  # made by the distribution's package
ETCD_QUOTA_BYTES = 2 << 30
MARK = (
    "FASTCONTAINER_QUICKSTART"  # in the environment of everything that we start; a container's environment is its own
)
RESTARTS_MAX = 1_000_000  # a process that somebody kills again and again is started again and again


@dataclass(frozen=True)
class Program:
    name: str
    command: tuple[str, ...]
    stop_wait_s: int = 5  # between the signal and SIGKILL
    stop_signal: str = "TERM"


LOOPBACK = ("127.0.0.0/8", "::1/128")  # where the UserLB of this machine comes from
USERPROXY_BEHIND = 2  # so many ports above the UserLB's, which is where the UserProxy would be without it


def placed(settings: Settings, *, has_haproxy: bool) -> Settings:
    """With the UserLB at the UserProxy's address, which moves behind it, unless somebody has said where it is to be, or `off`."""
    if settings.userlb_listen == "off" or not has_haproxy:
        return msgspec.structs.replace(settings, userlb_listen="")
    settings = msgspec.structs.replace(settings, userlbs=settings.userlbs or LOOPBACK)
    if settings.userlb_listen:
        return settings
    front = settings.userproxy_listen
    return msgspec.structs.replace(settings, userlb_listen=front, userproxy_listen=_behind(front))


def _behind(front: str) -> str:
    host, _, port = front.rpartition(":")
    return f"{host}:{int(port) + USERPROXY_BEHIND}"


def setting_of_front(settings: Settings) -> str:
    """Which one says where visitors come in."""
    return "userproxy_listen" if settings.userproxy_listen == _behind(settings.userlb_listen) else "userlb_listen"


def programs(settings: Settings, venv_bin: Path) -> tuple[Program, ...]:
    """In the order of their start."""
    python = str(venv_bin / "python")
    # They start as root and become their user themselves: they have to be let through to what they need first.
    confined = (python, "-m", "dispatcher.quickstart.confined")
    proxy = (*confined, settings.proxy_user, str(CHECKOUT), settings.run_dir, settings.log_dir, "--")
    userlb = Program(
        "userlb", (*proxy, str(venv_bin / "fastcontainer"), "userlb"), stop_wait_s=PROXY_STOP_WAIT_S, stop_signal="INT"
    )
    files = Program("files", (*proxy, str(venv_bin / "fastcontainer"), "files"), stop_wait_s=PROXY_STOP_WAIT_S)
    return (
        Program("etcd", (*confined, ETCD_USER, str(etcd_dir(settings)), "--", *etcd_command(settings))),
        Program("launcher", (str(venv_bin / "fastcontainer"), "launcher")),
        Program("agent", (str(venv_bin / "fastcontainer"), "agent"), stop_wait_s=10),
        Program(
            "webdispatcher", (*proxy, str(venv_bin / "fastcontainer-webdispatcher")), stop_wait_s=PROXY_STOP_WAIT_S
        ),
        Program("userproxy", (*proxy, str(venv_bin / "fastcontainer-userproxy")), stop_wait_s=PROXY_STOP_WAIT_S),
        *((files, userlb) if settings.userlb_listen else ()),
    )


def etcd_dir(settings: Settings) -> Path:
    return Path(settings.state_dir) / "etcd"


def etcd_command(settings: Settings) -> tuple[str, ...]:
    host, port = host_port(settings.etcd[0])
    client = f"http://{host}:{port}"
    # One member never calls itself, so that its peers' port may be any that is free.
    peer = "http://127.0.0.1:0"
    return (
        "etcd",
        "--name=fastcontainer",
        f"--data-dir={etcd_dir(settings)}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=fastcontainer={peer}",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=1h",
        f"--quota-backend-bytes={ETCD_QUOTA_BYTES}",
        f"--snapshot-count={ETCD_SNAPSHOT_COUNT}",
        "--logger=zap",
        "--log-level=warn",
    )


def config_path(settings: Settings) -> Path:
    return Path(settings.run_dir) / "fastcontainer.toml"


def config_text(settings: Settings) -> str:
    """What differs from the defaults, as TOML; a JSON string or array of strings is a TOML one."""
    changed = {
        field.name: value
        for field in msgspec.structs.fields(Settings)
        if (value := getattr(settings, field.name)) != field.default
    }
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in changed.items())


def control_socket(settings: Settings) -> Path:
    return Path(settings.run_dir) / "supervisor" / "control.sock"


def supervisor_text(settings: Settings, wanted: tuple[Program, ...], venv_bin: Path, open_files_max: int) -> str:
    run, logs = Path(settings.run_dir) / "supervisor", Path(settings.log_dir)
    parser = configparser.RawConfigParser()
    parser["unix_http_server"] = {"file": str(control_socket(settings)), "chmod": "0700"}
    parser["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    parser["supervisord"] = {
        "nodaemon": "true",
        "user": "root",
        "logfile": str(logs / "supervisord.log"),
        "pidfile": str(run / "supervisord.pid"),
        "childlogdir": str(logs),
        "identifier": "fastcontainer",
        "silent": "true",  # its log goes to the file alone
        "umask": "022",
        "minfds": str(open_files_max),
        "environment": _environment(settings, venv_bin),
    }
    for priority, program in enumerate(wanted):
        section = {
            "command": " ".join(_quoted(word) for word in program.command),
            "directory": "/",
            "priority": str(priority),  # stopped in the opposite order
            "autorestart": "true",
            "startsecs": "1",
            "startretries": str(RESTARTS_MAX),
            "stopsignal": program.stop_signal,
            "stopwaitsecs": str(program.stop_wait_s),
            "stopasgroup": "false",  # containers outlive the launcher and the agent
            "killasgroup": "false",
            "redirect_stderr": "true",
            "stdout_logfile": str(logs / f"{program.name}.log"),
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "2",
        }
        parser[f"program:{program.name}"] = section
    text = io.StringIO()
    parser.write(text)
    return text.getvalue().replace("%", "%%")


def _environment(settings: Settings, venv_bin: Path) -> str:
    environment = {
        "FASTCONTAINER_CONFIG": str(config_path(settings)),
        MARK: settings.run_dir,
        "PATH": f"{venv_bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "PYTHONUNBUFFERED": "1",
    }
    return ",".join(f'{name}="{value}"' for name, value in environment.items())


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word
