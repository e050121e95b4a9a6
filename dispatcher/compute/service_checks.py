"""Whether the processes that this host needs answer (etcd, agent, launcher), and whether the ports are free or ours."""

import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil

from dispatcher.compute.findings import Finding, degraded, missing, ok
from dispatcher.compute.link import visit
from dispatcher.compute.protocol import Enter
from dispatcher.problems import Code, Problem
from dispatcher.settings import Settings, host_port
from dispatcher.units import format_memory

ANSWER_S = 2.0
ETCD_QUOTA_BYTES = 2 << 30  # etcd's own default; past it, it takes no more writes
ETCD_FULL_SHARE = 0.8
OURS = ("addons.userproxy", "addons.webdispatcher", "userproxy.py", "webdispatcher.py", "fastcontainer")
_DB_SIZE = re.compile(r"^etcd_mvcc_db_total_size_in_bytes (\S+)", re.MULTILINE)
_LISTENING = 0x10000  # flag __SO_ACCEPTCON in /proc/net/unix


def etcd(settings: Settings) -> list[Finding]:
    return [_etcd_member(settings, endpoint) for endpoint in settings.etcd]


def _etcd_member(settings: Settings, endpoint: str) -> Finding:
    what = f"etcd {endpoint}"
    try:
        version = str(json.loads(_fetch(settings, endpoint, "/version"))["etcdserver"])
        healthy = json.loads(_fetch(settings, endpoint, "/health"))
        size = _DB_SIZE.search(_fetch(settings, endpoint, "/metrics"))
    except (OSError, ValueError, KeyError) as error:
        return missing(
            what, f"does not answer: {error}", "start etcd, or name another one in the settings (etcd = [...])"
        )
    size_bytes = int(float(size[1])) if size else 0
    found = f"{version}, database {format_memory(size_bytes >> 20 << 20 or size_bytes)}"
    if healthy.get("health") != "true":
        remedy = "NOSPACE: etcdctl compact, defrag, alarm disarm; otherwise look for its lost members"
        return missing(what, f"{found}; it says that it is not healthy {healthy.get('reason', '')}".rstrip(), remedy)
    if size_bytes > ETCD_QUOTA_BYTES * ETCD_FULL_SHARE:
        return degraded(what, found, "etcdctl compact and defrag; run etcd with --auto-compaction-retention=1h")
    return ok(what, found)


def _fetch(settings: Settings, endpoint: str, path: str) -> str:
    """etcd answers a failed health check with 503 and the same JSON."""
    trust = None
    if settings.etcd_ca:
        trust = ssl.create_default_context(cafile=settings.etcd_ca)
        if settings.etcd_cert:
            trust.load_cert_chain(settings.etcd_cert, settings.etcd_key)
    url = f"{'https' if trust else 'http'}://{endpoint}{path}"
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S, context=trust) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def agent(settings: Settings) -> Finding:
    """Asks for an app that cannot exist: any answer will do."""
    what = "agent"
    try:
        with visit(settings.agent_socket, Enter(id=1, app="-")):
            pass
    except Problem as problem:
        if problem.code is Code.NO_COMPUTE:
            return missing(what, problem.message, "start it: fastcontainer agent")
    return ok(what, settings.agent_socket)


def launcher(settings: Settings) -> Finding:
    """Looks and does not ask: the launcher serves one agent, and who connects takes the agent's place."""
    path = settings.launcher_socket
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    if any(line.endswith(f" {path}") and int(line.split()[3], 16) & _LISTENING for line in lines):
        return ok("launcher", path)
    return missing("launcher", f"nobody listens at {path}", "start it: fastcontainer launcher")


def ports(settings: Settings) -> list[Finding]:
    wanted = [
        *(("userproxy", each.userproxy_listen) for each in settings.userproxies),
        ("webdispatcher", settings.webdispatcher_listen),
        *(("userproxy metrics", each.userproxy_metrics) for each in settings.userproxies),
        ("webdispatcher metrics", settings.webdispatcher_metrics),
        ("agent metrics", settings.agent_metrics),
    ]
    holders = {
        each.laddr.port: each.pid
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr
    }
    return [_port(f"port of {name}", word, holders) for name, word in wanted]


def _port(what: str, word: str, holders: dict[int, int | None]) -> Finding:
    try:
        _, port = host_port(word)
    except ValueError as error:
        return missing(what, str(error), "correct the settings")
    if port not in holders:
        return ok(what, f"{word}, free")
    command = _command(holders[port])
    if any(name in command for name in OURS):
        return ok(what, f"{word}, ours")
    return missing(
        what,
        f"{word} is taken by {command[:60] or 'another process'}",
        "stop that, or choose another port in the settings",
    )


def _command(pid: int | None) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline()) if pid else ""
    except psutil.Error:
        return ""


CHECKS: tuple[Callable[[Settings], Finding | list[Finding]], ...] = (etcd, agent, launcher, ports)
