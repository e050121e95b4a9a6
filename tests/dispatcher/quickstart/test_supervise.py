"""The process manager for real: as quick after a kill as it is said to be, and a reaper of orphans."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from dispatcher.quickstart.programs import Program, supervisor_text
from dispatcher.settings import Settings

REPOSITORY = Path(__file__).parents[3]


def wait_for(condition, timeout_s: float = 15.0):
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
    return found


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_a_killed_program_is_back_at_once_and_its_orphans_are_reaped(tmp_path: Path) -> None:
    settings = Settings(run_dir=str(tmp_path), log_dir=str(tmp_path))
    (tmp_path / "supervisor").mkdir()
    pids, orphans = tmp_path / "pids", tmp_path / "orphans"
    script = tmp_path / "program.sh"
    script.write_text(
        f"#!/bin/sh\nsleep 1000 >/dev/null 2>&1 &\necho $! >> {orphans}\necho $$ >> {pids}\nexec sleep 1000\n"
    )
    script.chmod(0o755)
    text = supervisor_text(settings, (Program("one", (str(script),)),), Path(sys.executable).parent, 256)
    if os.geteuid() != 0:
        text = text.replace("user = root\n", "")
    config = tmp_path / "supervisord.conf"
    config.write_text(text)
    manager = subprocess.Popen([sys.executable, "-m", "dispatcher.quickstart.supervise", str(config)], cwd=REPOSITORY)
    try:
        first = int(wait_for(lambda: lines(pids))[0])
        wait_for(lambda: "entered RUNNING" in (tmp_path / "supervisord.log").read_text())
        killed_at = time.monotonic()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: len(lines(pids)) == 2)
        assert time.monotonic() - killed_at < 0.5
        orphan = psutil.Process(int(lines(orphans)[0]))
        assert orphan.ppid() == manager.pid
        orphan.kill()
        orphan.wait(5)
    finally:
        manager.terminate()
        manager.wait(15)
        for pid in lines(orphans)[1:]:
            os.kill(int(pid), signal.SIGKILL)
