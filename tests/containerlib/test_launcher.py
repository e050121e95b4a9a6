"""The launcher, spoken to as an agent does; and the blanks that it makes."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containerlib import blank, cgroups, code, launcher, pausing, seccomp
from containerlib.identity import Identity

pytestmark = pytest.mark.system


class Lab:
    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "launcher.sock")
        self.etc = directory / "etc"
        self.etc.mkdir()
        (directory / "stage").mkdir()
        command = [sys.executable, "-SI", launcher.__file__, self.path, str(directory / "stage")]
        self.process = subprocess.Popen(command, umask=0o077)
        self.agents: list[socket.socket] = []
        self.fds: list[int] = [seccomp.memory_file(seccomp.compile_filter())]
        self.filter = self.fds[0]
        self.blanks: list[int] = []  # pidfds

    def agent(self) -> socket.socket:
        for _ in range(1000):
            agent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            agent.settimeout(5)
            try:
                agent.connect(self.path)
            except OSError:
                agent.close()
                select.select([], [], [], 0.01)
            else:
                self.agents.append(agent)
                assert json.loads(agent.recv(4096)) == {"code": code.checksum()}
                return agent
        raise AssertionError("it does not listen")

    def blank(
        self, agent: socket.socket, slot: int = 5, *, etc: str = "", groups: tuple[str, ...] = (), mapped: bool = True
    ) -> tuple[int, socket.socket, int]:
        """pid, control, the reading end of its stdout."""
        read, write = os.pipe()
        request = {"blank": slot, "groups": groups, "etc": etc or str(self.etc), "mapped": mapped}
        socket.send_fds(agent, [json.dumps(request).encode()], [write, write, self.filter])
        os.close(write)
        message, (control, pidfd), _, _ = socket.recv_fds(agent, 65536, 2)
        reply = json.loads(message)
        assert reply["blank"] == slot
        self.fds.append(read)
        self.blanks.append(pidfd)
        connection = socket.socket(fileno=control)
        connection.settimeout(5)
        self.agents.append(connection)
        return reply["pid"], connection, read

    def close(self) -> None:
        """An init outlives everybody else, and a blank half made still makes files."""
        for pidfd in self.blanks:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            assert select.select([pidfd], [], [], 5)[0]
        for each in self.agents:
            each.close()
        for fd in (*self.fds, *self.blanks):
            os.close(fd)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="fc-") as directory:
        Path(directory).chmod(0o755)
        lab = Lab(Path(directory))
        yield lab
        lab.close()


def exited(agent: socket.socket) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(agent.recv(65536))
    assert "exited" in report
    return report


def identity(*command: str, **values: Any) -> bytes:
    return Identity("blog", 200_001, command, init=False, **values).to_bytes()


def test_a_blank_becomes_a_program_and_its_end_is_reported(lab: Lab) -> None:
    agent = lab.agent()
    pid, control, out = lab.blank(agent)
    assert control.recv(100) == b"ready"
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")  # noqa: PTH115
    control.send(identity("sh", "-c", "echo $0 is $$; exit 3", env={"A": "1"}))
    assert control.recv(100).startswith(b"exec")
    assert control.recv(100) == b""  # closed by execve
    assert os.read(out, 100) == b"/usr/bin/sh is 1\n"
    assert exited(agent) == {"exited": pid, "status": 3 << 8}


def test_without_user_namespaces_a_program_is_its_user_by_the_hosts_number(lab: Lab) -> None:
    _, control, out = lab.blank(lab.agent(), mapped=False)
    assert control.recv(100) == b"ready"
    control.send(identity("sh", "-c", "echo $(id -u) $(cat /proc/self/uid_map)"))
    assert control.recv(100).startswith(b"exec")
    assert control.recv(100) == b""
    assert os.read(out, 200).split() == [b"200001", b"0", b"0", b"4294967295"]


def test_a_program_can_read_what_was_generated_for_it_whatever_umask_the_launcher_was_started_with(lab: Lab) -> None:
    _, control, out = lab.blank(lab.agent())
    control.recv(100)
    control.send(identity("cat", "/.fastcontainer/hosts"))
    assert b" blog\n" in os.read(out, 100)


def test_a_spawned_program_waits_for_its_own_children_and_the_kernel_for_its_orphans(lab: Lab) -> None:
    pid, control, out = lab.blank(lab.agent())
    control.recv(100)
    script = "grep SigIgn /proc/self/status; (sleep 0.2 & ) ; (true & ) ; true; echo $?; exec sleep 60"
    control.send(Identity("blog", 200_001, ("sh", "-c", script), spawn=True).to_bytes())
    message, (program,), _, _ = socket.recv_fds(control, 100, 1)
    lab.fds.append(program)
    assert message == b"exec"
    ignored, status = (os.read(out, 100).split()[1], os.read(out, 100))
    assert not int(ignored, 16) & 1 << (signal.SIGCHLD - 1)
    assert status == b"0\n"
    assert control.recv(100) == b""  # the init has taken the blank's place
    children = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + 5
    while len(children.read_text().split()) > 1:
        assert time.monotonic() < deadline, "an orphan has ended, and nobody reaps it"
        select.select([], [], [], 0.01)
    if (tiny := pausing.memory_file()) is not None:
        os.close(tiny)
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"init\0"


def test_a_blank_is_in_its_groups_before_anything_else(lab: Lab) -> None:
    tree = cgroups.find(f"fctest-{os.getpid()}")
    group = tree.create("5")
    agent = lab.agent()
    pid, control, _ = lab.blank(agent, groups=group.entrances())
    assert control.recv(100) == b"ready"
    assert pid in group.processes()
    for directory in group.directories():
        assert str(pid) in (directory / "cgroup.procs").read_text().split()
    control.close()
    assert exited(agent)["exited"] == pid
    group.remove()
    tree.remove()


def test_a_group_that_is_not_there_is_told(lab: Lab) -> None:
    _, control, _ = lab.blank(lab.agent(), groups=("/sys/fs/cgroup/no-such/tasks",))
    failure = json.loads(control.recv(10_000))
    assert failure["step"] == "control groups"
    assert "No such file or directory: '/sys/fs/cgroup/no-such/tasks'" in failure["failed"]


def test_a_blank_whose_agent_is_gone_exits(lab: Lab) -> None:
    agent = lab.agent()
    pid, control, _ = lab.blank(agent)
    assert control.recv(100) == b"ready"
    control.close()
    agent.close()
    again = lab.agent()
    assert exited(again) == {"exited": pid, "status": 0}


@pytest.mark.parametrize(
    ("command", "values", "words"),
    [
        (("/no/such",), {}, "command '/no/such' is not an executable file in the container"),
        (("no-such",), {}, "is not in the container's PATH"),
        (("true",), {"workdir": "/no/such"}, "/no/such"),
    ],
)
def test_a_failure_is_told_to_the_agent_with_its_step(
    lab: Lab, command: tuple[str, ...], values: dict[str, Any], words: str
) -> None:
    agent = lab.agent()
    _, control, _ = lab.blank(agent)
    assert control.recv(100) == b"ready"
    control.send(identity(*command, **values))
    failure = json.loads(control.recv(65536))
    assert words in failure["failed"]
    assert failure["step"] == "identity"
    assert exited(agent)["status"] == 127 << 8


def test_an_image_that_is_missing_is_told_before_anybody_waits(lab: Lab) -> None:
    agent = lab.agent()
    _, control, _ = lab.blank(agent, etc="/no/such/image")
    failure = json.loads(control.recv(65536))
    assert "No such file" in failure["failed"]
    assert failure["step"].startswith("BindReadonly(source='/no/such/image'")


def test_a_message_that_is_no_identity_ends_the_blank_and_not_the_launcher(lab: Lab) -> None:
    agent = lab.agent()
    _, control, _ = lab.blank(agent)
    assert control.recv(100) == b"ready"
    control.send(b"{}")
    assert b"failed" in control.recv(65536)
    assert exited(agent)["status"] == 127 << 8
    _, control, _ = lab.blank(agent, 6)
    assert control.recv(100) == b"ready"


def test_ends_are_kept_while_no_agent_listens(lab: Lab) -> None:
    agent = lab.agent()
    pids = []
    for slot in range(3):
        pid, control, _ = lab.blank(agent, slot)
        assert control.recv(100) == b"ready"
        control.send(identity("sleep", "60"))
        control.recv(100), control.recv(100)
        pids.append(pid)
    agent.close()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    again = lab.agent()
    assert {exited(again)["exited"] for _ in pids} == set(pids)


def test_the_newest_agent_wins(lab: Lab) -> None:
    first = lab.agent()
    lab.blank(first)
    second = lab.agent()
    assert first.recv(100) == b""
    lab.blank(second, 7)


def test_only_root_may_ask(lab: Lab) -> None:
    lab.agent()
    assert Path(lab.path).stat().st_mode & 0o077 == 0


def test_a_blank_has_no_open_file_of_the_launchers(lab: Lab) -> None:
    agent = lab.agent()
    lab.blank(agent)
    pid, control, _ = lab.blank(agent, 6)
    assert control.recv(100) == b"ready"
    open_files = sorted(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir())
    assert open_files[:3] == [0, 1, 2]
    init = pausing.memory_file()
    expected = 7 if init is None else 8
    if init is not None:
        os.close(init)
    assert (
        len(open_files) == expected
    )  # and its control, its user namespace with both maps, and its init where that is a page


def test_a_killed_launcher_takes_no_container_along_and_its_blanks_go_with_their_agent(lab: Lab) -> None:
    agent = lab.agent()
    pid, control, _ = lab.blank(agent)
    assert control.recv(100) == b"ready"
    control.send(identity("sleep", "60"))
    control.recv(100), control.recv(100)
    lab.process.kill()
    lab.process.wait()
    assert agent.recv(100) == b""
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)
    select.select([lab.fds[-1]], [], [], 5)


def test_many_blanks_are_made_one_after_the_other(lab: Lab) -> None:
    agent = lab.agent()
    assert len({lab.blank(agent, slot)[0] for slot in range(20)}) == 20
    assert blank.MESSAGE_BYTES_MAX == 200_000
