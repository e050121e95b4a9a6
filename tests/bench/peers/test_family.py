import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.peers.family import family, parse_stat

# Forks twice, as daemons do: the grandchild is nobody's child any more once this has ended.
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(100)
    os._exit(0)
"""
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(100)"
)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("12 (php-fpm8.2) S 7 12 5 0 -1", (12, "S", 7, 5)),
        ("12 (a) b (c)) Z 1 12 12 0 -1", (12, "Z", 1, 12)),
    ],
)
def test_a_name_may_hold_anything(text: str, parsed: tuple[int, str, int, int]) -> None:
    assert parse_stat(text) == parsed


def until_count(its: object, count: int) -> list[int]:
    deadline = time.monotonic() + 10
    while len(pids := its.pids()) != count:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline, pids
        time.sleep(0.01)
    return pids


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_daemon_is_counted_and_ended(tmp_path: Path) -> None:
    with family() as its:
        its.start((sys.executable, "-c", DAEMON), tmp_path / "log").wait(10)
        [daemon] = until_count(its, 1)
    assert not is_there(daemon)


def test_who_was_there_before_stays() -> None:
    with subprocess.Popen(("sleep", "100")) as stranger:
        with family() as its:
            assert its.pids() == []
        assert stranger.poll() is None
        stranger.kill()


def test_who_ignores_the_word_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.peers.family.END_S", 0.2)
    log = tmp_path / "log"
    with family() as its:
        process = its.start((sys.executable, "-c", STUBBORN), log)
        while "deaf" not in log.read_text():
            time.sleep(0.01)
    assert process.returncode == -signal.SIGKILL


def test_a_session_is_killed_and_nobody_else(tmp_path: Path) -> None:
    with family() as its:
        one = its.start(("sleep", "100"), tmp_path / "log")
        other = its.start(("sleep", "100"), tmp_path / "log")
        assert its.session(one.pid) == [one.pid]
        its.kill(its.session(one.pid))
        assert its.pids() == [other.pid]


def test_it_is_nobody_s_reaper_afterwards(tmp_path: Path) -> None:
    with family():
        pass
    before = psutil.Process().children()  # of tests before this one
    subprocess.run((sys.executable, "-c", DAEMON.replace("100", "0.2")), check=True)
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        assert not set(psutil.Process().children()) - set(before)
        time.sleep(0.05)
