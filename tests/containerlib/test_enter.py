"""A stand-in for a container: real namespaces and, where they are writable, a real cgroup; entered by a process of its own."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from containerlib.enter import Door, Ended, enter

UID = 345_678
ENTER = """
import json, sys
from containerlib.enter import Door, enter
sys.exit(enter(Door(**json.loads(sys.argv[1])), sys.argv[2:]))
"""

Entered = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def group() -> Iterator[Path]:
    top = Path("/sys/fs/cgroup")
    base = top if (top / "cgroup.controllers").exists() else top / "pids"
    directory = base / f"fastcontainer-test-{os.getpid()}"
    directory.mkdir()
    yield directory
    deadline = time.monotonic() + 5
    while (directory / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    directory.rmdir()


@pytest.fixture
def door(group: Path) -> Iterator[Door]:
    script = "hostname inside; echo $$; read line"
    namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--mount-proc", "--fork", "--kill-child"]
    command = ["unshare", *namespaces, "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        (pid,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (group / "cgroup.procs").write_text(pid)
        yield Door("blog/1.1", int(pid), (str(group),), UID, "/usr", {"A": "b"})
        process.kill()


@pytest.fixture
def entered(door: Door) -> Entered:
    def run(*command: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(call(door, *command), input=input, capture_output=True, text=True, timeout=20)

    return run


def call(door: Door, *command: str) -> list[str]:
    return [sys.executable, "-c", ENTER, json.dumps(asdict(door)), *command]


@pytest.mark.system
def test_it_is_inside_and_nobody(entered: Entered, group: Path) -> None:
    script = "id -u; id -g; pwd; hostname; echo $A; cat; ls /proc/self/fd; echo oops >&2; exit 7"
    done = entered("sh", "-c", script, input="fed\n")
    assert done.stdout.split() == [str(UID), str(UID), "/usr", "inside", "b", "fed", "0", "1", "2", "3"]
    assert (done.returncode, done.stderr) == (7, "oops\n")


@pytest.mark.system
def test_it_has_no_capabilities_and_gets_none(entered: Entered, group: Path) -> None:
    status = dict(line.split(":\t") for line in entered("cat", "/proc/self/status").stdout.splitlines())
    assert {status[f"Cap{name}"].strip("0") for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {""}
    assert status["NoNewPrivs"] == "1"
    assert group.name in entered("cat", "/proc/self/cgroup").stdout


@pytest.mark.system
def test_it_sees_the_container_and_not_the_host(entered: Entered) -> None:
    done = entered(
        "sh", "-c", "ls /proc | grep -c '^[0-9]'; ls /sys/class/net /proc/self/task >/dev/null; cat /proc/net/dev"
    )
    assert int(done.stdout.split()[0]) <= 5
    assert [line.split(":")[0].strip() for line in done.stdout.splitlines()[3:]] == ["lo"]


@pytest.mark.system
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("no-such-program",), 127, "no-such-program: No such file"),
        (("/etc/passwd",), 126, "/etc/passwd: Permission denied"),
        (("sh", "-c", "kill -9 $$"), 137, ""),
        (("sh", "-c", "kill -TERM $$"), 143, ""),
    ],
)
def test_exit_codes(entered: Entered, command: tuple[str, ...], code: int, said: str) -> None:
    done = entered(*command)
    assert done.returncode == code
    assert said in done.stderr


def read_until(fd: int, text: bytes) -> bytes:
    seen, deadline = b"", time.monotonic() + 20
    while text not in seen:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(fd, 4096)
    return seen


@pytest.mark.system
def test_a_shell_on_a_terminal_of_its_own(door: Door) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(call(door), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        try:
            os.write(ours, b"PS1=; echo ready$((1+1))\n")
            read_until(ours, b"ready2")
            os.write(ours, b"echo at=$(readlink /proc/self/fd/0); echo again$((1+1)) >/dev/stderr\n")
            assert os.ttyname(theirs).encode() not in read_until(ours, b"again2")
            os.write(ours, b"sh -c 'echo up$((1+1)); exec sleep 60'\n")
            read_until(ours, b"up2")
            os.write(ours, b"\x03")  # reaches what runs inside, not us
            os.write(ours, b"echo rc=$?\n")
            read_until(ours, b"rc=130")
            os.write(ours, b"exit 5\n")
            assert process.wait(timeout=20) == 5
        finally:
            process.kill()
    os.close(ours)
    os.close(theirs)


@pytest.mark.system
def test_a_terminal_among_the_outputs_does_not_go_in(door: Door) -> None:
    ours, theirs = pty.openpty()
    script = "[ -t 1 ] && echo leaked; [ -t 2 ] && echo leaked; echo done"
    done = subprocess.run(
        call(door, "sh", "-c", script), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, timeout=20
    )
    assert done.returncode == 0
    assert b"leaked" not in read_until(ours, b"done")
    os.close(ours)
    os.close(theirs)


@pytest.mark.system
def test_ctrl_c_ends_what_was_started_without_a_terminal(door: Door, group: Path) -> None:
    with subprocess.Popen(call(door, "sh", "-c", "echo up; exec sleep 60"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          start_new_session=True) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            process.stdout.readline()
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(timeout=20) == 130
        finally:
            process.kill()
    deadline = time.monotonic() + 10
    while len((group / "cgroup.procs").read_text().split()) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.system
def test_a_number_that_means_another_process_now_is_refused(group: Path) -> None:
    with pytest.raises(Ended, match=r"blog/1\.1 ended"):
        enter(Door("blog/1.1", os.getpid(), (str(group),), UID, "/", {}), ["true"])
