"""The running process manager, as seen from ./quickstart: start it, ask it, stop it, and find what outlived it."""

import os
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from dispatcher.quickstart.programs import MARK, control_socket
from dispatcher.settings import Settings, host_port

STOP_WAIT_S = 60.0  # of all programs together, one after the other
FAILING_WAIT_S = 10.0  # after which a program that exits at once counts as broken
KILL_WAIT_S = 5.0


class Manager:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def start(self, config: Path) -> None:
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", MARK: self._settings.run_dir}
        with Path(self._settings.log_dir, "supervisord.out").open("ab") as output:
            # A session of its own: Ctrl-C in our terminal is ours to translate into an orderly stop.
            subprocess.Popen(
                [sys.executable, "-m", "dispatcher.quickstart.supervise", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=environment,
                start_new_session=True,
            )

    def states(self) -> dict[str, str] | None:
        """State by program, None when no manager answers."""
        proxy = xmlrpc.client.ServerProxy(
            "http://127.0.0.1", transport=SupervisorTransport(serverurl=f"unix://{control_socket(self._settings)}")
        )
        try:
            infos: Any = proxy.supervisor.getAllProcessInfo()
            return {info["name"]: info["statename"] for info in infos}
        except (OSError, xmlrpc.client.Error):
            return None
        finally:
            proxy("close")()

    def is_running(self) -> bool:
        return self.states() is not None

    def pid(self) -> int | None:
        try:
            return int((control_socket(self._settings).parent / "supervisord.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def stop(self) -> bool:
        """Ends all programs, the last started first; False when it had to be killed for it."""
        pid = self.pid()
        if pid is None or not self.is_running():
            return True
        os.kill(pid, signal.SIGTERM)
        _gone, alive = psutil.wait_procs(_processes([pid]), timeout=STOP_WAIT_S)
        for process in alive:
            process.kill()
        return not alive


def _processes(pids: list[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        try:
            found.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    return found


def strays(settings: Settings) -> list[psutil.Process]:
    """Processes of an installation whose manager is gone."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            if process.environ().get(MARK) == settings.run_dir:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return found


def end(processes: list[psutil.Process], kill_wait_s: float = KILL_WAIT_S) -> None:
    for process in processes:
        process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=kill_wait_s)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=kill_wait_s)


def accepts(address: str) -> bool:
    """`address` is HOST:PORT or the path of a Unix socket."""
    family = socket.AF_UNIX if address.startswith("/") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address if family == socket.AF_UNIX else host_port(address))
        except OSError:
            return False
    return True


def wait_until_serving(settings: Settings, manager: Manager, timeout_s: float) -> dict[str, str]:
    """Programs that do not serve in time, or fail again and again, with the state that the manager tells. Empty when all serve."""
    waited_for = {
        "etcd": settings.etcd[0],
        "agent": settings.agent_socket,
        "webdispatcher": settings.webdispatcher_listen,
        "userproxy": settings.userproxy_listen,
    } | ({"userlb": settings.userlb_listen} if settings.userlb_listen else {})
    begin = time.monotonic()
    while True:
        waited_for = {name: address for name, address in waited_for.items() if not accepts(address)}
        states = manager.states() or {}
        silent = {name: states.get(name, "no process manager") for name in waited_for}
        passed = time.monotonic() - begin
        if not silent or passed > timeout_s or (passed > FAILING_WAIT_S and "BACKOFF" in silent.values()):
            return silent
        time.sleep(0.1)
