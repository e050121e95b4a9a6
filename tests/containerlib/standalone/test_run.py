"""Running from here: in the foreground, on a terminal, detached; and after a runner that died."""

import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from containerlib import kernel, process
from containerlib.standalone.places import Record, Taken, is_held, records, wait_until_free
from containerlib.standalone.run import Job, NotStarted, clear_away, run_detached
from tests.containerlib.conftest import HTTPD, SLEEP, Box, until

pytestmark = pytest.mark.system


def job(box: Box, body: str, *command: str) -> Job:
    return Job("web", (box.define(body),), box.settings, command)


def end(box: Box, runner: int) -> None:
    """It is nobody's child here: by its pidfd."""
    os.kill(runner, signal.SIGTERM)
    until(lambda: box.names() == [] and process.start_time(runner) is None)


def test_detached_it_returns_when_it_is_ready_and_outlives_who_asked(box: Box) -> None:
    record = run_detached(job(box, HTTPD + "    c.log(bytes_max='1M')\n"))
    assert (record.status, record.name) == ("running", "web")
    assert os.getsid(record.runner) == record.runner
    assert is_held(box.settings, "web")
    with pytest.raises(Taken, match="web runs already"):
        run_detached(job(box, HTTPD))
    assert box.record() == record
    end(box, record.runner)


def test_detached_it_says_why_it_did_not_start(box: Box) -> None:
    with pytest.raises(NotStarted, match="is not in the container's PATH"):
        run_detached(job(box, SLEEP, "no-such-program"))
    until(lambda: box.names() == [])


def test_what_it_writes_detached_is_in_its_log(box: Box) -> None:
    record = run_detached(job(box, SLEEP, "sh", "-c", "echo hello; echo oops >&2; sleep 100"))
    until(lambda: Path(record.stdout).read_text() == "hello\n" and Path(record.stderr).read_text() == "oops\n")
    end(box, record.runner)


def test_of_what_is_left_by_a_runner_that_died_nothing_stays(box: Box) -> None:
    record = run_detached(job(box, HTTPD))
    os.kill(record.runner, signal.SIGKILL)
    until(lambda: not is_held(box.settings, "web"))
    assert process.start_time(record.pid) == record.start_time  # the container does not notice
    again = run_detached(job(box, HTTPD))  # cleared away by the next
    assert process.start_time(record.pid) != record.start_time
    assert again.network == record.network
    launcher = peer_of(box.settings.run_dir / "web/launcher.sock")
    os.kill(again.runner, signal.SIGKILL)
    until(lambda: not is_held(box.settings, "web"))
    assert clear_away(box.settings, "web")
    assert not clear_away(box.settings, "web")
    until(lambda: process.start_time(again.pid) is None and process.start_time(launcher) is None)
    assert box.names() == []


def peer_of(path: Path) -> int:
    """Who listens there. The launcher takes us for another agent, and its own will come again."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(path))
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


@pytest.mark.parametrize("phase", ["before_fork", "after_fork_host", "after_root", "after_start"])
def test_a_runner_killed_at_any_step_leaves_what_the_next_can_clear_away(box: Box, phase: str) -> None:
    stuck = "    def stuck(container):\n        print('here', flush=True)\n        time.sleep(60)\n"
    hook = f"    @c.hook({phase!r})\n{stuck}"
    running = box.start("run", box.define(HTTPD + hook))
    assert running.stdout is not None
    assert running.stdout.readline() == "here\n"
    record = box.record()
    assert record is not None and record.status == "starting"
    os.kill(record.runner, signal.SIGKILL)
    running.wait(10)
    until(lambda: not is_held(box.settings, "web"))
    assert clear_away(box.settings, "web")
    assert box.names() == []


def test_one_at_a_time(box: Box) -> None:
    record = run_detached(job(box, HTTPD))
    with pytest.raises(Taken):
        clear_away(box.settings, "web")
    end(box, record.runner)


# ---- a terminal


class Terminal:
    def __init__(self, box: Box, *words: str | Path) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        self.process = subprocess.Popen(
            box.command(*words), env=box.environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read_until(self, text: str) -> str:
        seen, deadline = b"", time.monotonic() + 20
        while text.encode() not in seen:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, seen
            seen += os.read(self.master, 4096)
        return seen.decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def test_a_shell_on_a_terminal_of_the_containers_own(box: Box) -> None:
    terminal = Terminal(box, "run", box.define('    c.command("sh")\n'))
    try:
        terminal.read_until("$ ")
        terminal.type("echo pid=$$; [ -t 0 ] && stty size\n")
        assert "pid=" in terminal.read_until("33 99")
        terminal.type("readlink /proc/self/fd/0; sleep 50\n")
        assert os.ptsname(terminal.master) not in terminal.read_until("sleep 50")
        time.sleep(0.1)
        terminal.type("\x03")  # reaches the sleep, neither the shell nor us
        terminal.type("echo rc=$?\n")
        terminal.read_until("rc=130")
        terminal.type("exit 7\n")
        assert terminal.process.wait(20) == 7
    finally:
        terminal.close()
    assert box.names() == []


ANSWERS = """    program = (
        "import socket\\nserver = socket.create_server(('', 80))\\nwhile True:\\n    peer = server.accept()[0]\\n"
        "    print('x' * 5000)\\n    peer.sendall(b'hello')\\n    peer.close()\\n"
    )
    c.command('/usr/bin/python3', '-SIuc', program)
    c.readiness(port=80)
    c.stop(grace=0)
"""


@pytest.fixture
def full(box: Box) -> Iterator[Path]:
    """A small disk for what outlives a container, its logs included; the file that fills it, when it is to be full."""
    (box.directory / "state/images").unlink()
    kernel.mount("tmpfs", str(box.directory / "state"), "tmpfs", 0, "size=2m,mode=755")
    box.settings = replace(box.settings, log_dir=box.directory / "state/log")
    try:
        yield box.directory / "state/filler"
        for record in records(box.settings):
            os.kill(record.runner, signal.SIGTERM)
            wait_until_free(box.settings, record.name)
    finally:
        kernel.umount2(str(box.directory / "state"), kernel.MNT_DETACH)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def answer(record: Record) -> bytes:
    with socket.create_connection((record.address, 80), timeout=5) as peer:
        return peer.recv(5)


def test_a_full_disk_of_state_and_logs_is_told_and_what_runs_goes_on(box: Box, full: Path) -> None:
    record = run_detached(job(box, ANSWERS))
    fill(full)
    # More than its FIFO or the rest of the disk could hold; that it is lost cannot be told either.
    assert {answer(record) for _ in range(40)} == {b"hello"}
    refused = box.call("run", box.define(SLEEP, "other"))
    said = f"No space left on device: make room on its file system, then try again: '{box.directory}/state/ids.json'"
    assert (refused.returncode, said in refused.stderr) == (1, True), refused.stderr
    image = "    c.bootstrap.image('small', Directory('/usr/share/doc/base-files'))\n    c.command('true')\n"
    head = "from containerlib.bootstrap.directory import Directory\n"
    refused = box.call("create", box.define(image, "third", head))
    assert refused.returncode == 1 and "No space left" in refused.stderr
    assert f"{box.directory}/state" in refused.stderr and "make room" in refused.stderr
    assert (answer(record), box.names()) == (b"hello", ["web"])
    full.unlink()
    assert box.call("run", box.define("    c.command('true')\n", "other")).returncode == 0
    assert box.call("kill", "web").returncode == 0
