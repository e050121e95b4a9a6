import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from dispatcher.quickstart.control import Manager, accepts, end, strays, wait_until_serving
from dispatcher.quickstart.programs import MARK
from dispatcher.settings import Settings


def test_accepts_a_port_and_a_socket_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert accepts(f"127.0.0.1:{port}")
    assert not accepts(f"127.0.0.1:{port}")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert not accepts(str(tmp_path / "s"))
        server.listen()
        assert accepts(str(tmp_path / "s"))


def test_no_manager_is_no_error(tmp_path: Path) -> None:
    manager = Manager(Settings(run_dir=str(tmp_path)))
    assert manager.states() is None
    assert manager.stop()
    assert wait_until_serving(Settings(run_dir=str(tmp_path), userproxy_listen="127.0.0.1:1"), manager, 0.0).keys() >= {
        "agent",
        "userproxy",
    }


def test_strays_are_found_by_their_mark_and_end_even_if_they_would_not(tmp_path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    command = [sys.executable, "-c", code]
    with (
        subprocess.Popen(command, env={**os.environ, MARK: str(tmp_path)}, stdout=subprocess.PIPE) as ours,
        subprocess.Popen(command, env={**os.environ, MARK: "/run/other"}, stdout=subprocess.PIPE) as others,
    ):
        for process in (ours, others):
            assert process.stdout and process.stdout.readline()
        found = strays(Settings(run_dir=str(tmp_path)))
        assert [process.pid for process in found] == [ours.pid]
        end(found, kill_wait_s=0.1)
        assert not psutil.pid_exists(ours.pid)
        assert others.poll() is None
        others.kill()
