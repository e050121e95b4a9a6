"""The smallest PID 1, executed for real."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerlib import pausing

here = pytest.mark.skipif(os.uname().machine != "x86_64", reason="its code is for x86-64; others have catatonit")


@pytest.fixture
def file() -> Iterator[int]:
    fd = pausing.memory_file()
    assert fd is not None
    yield fd
    os.close(fd)


@pytest.fixture
def pausing_pid(file: int) -> Iterator[int]:
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.execve(file, pausing.ARGV, {})
        finally:
            os._exit(1)
    os.close(tell)
    assert os.read(told, 1) == b""  # closed by execve
    os.close(told)
    yield pid
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


@here
def test_it_waits_and_holds_next_to_nothing(pausing_pid: int) -> None:
    assert os.waitpid(pausing_pid, os.WNOHANG) == (0, 0)
    assert Path(f"/proc/{pausing_pid}/cmdline").read_bytes() == b"init\0"
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pausing_pid}/status").read_text().splitlines())
    assert int(status["RssAnon"].split()[0]) <= 16
    assert int(status["VmPTE"].split()[0]) <= 32


@here
def test_nobody_can_change_what_all_containers_execute(file: int, pausing_pid: int) -> None:
    with pytest.raises(PermissionError):
        os.write(file, b"x")
    with pytest.raises(PermissionError):
        os.ftruncate(file, 0)
    with pytest.raises(PermissionError):
        os.fchmod(file, 0o500)
    with pytest.raises(OSError) as raised, open(f"/proc/{pausing_pid}/exe", "r+b", buffering=0) as opened:
        opened.write(b"x")
    assert raised.value.errno in (errno.ETXTBSY, errno.EPERM)


def test_other_processors_have_catatonit(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = os.uname_result(("Linux", "host", "6.18", "1", "aarch64"))
    monkeypatch.setattr(os, "uname", lambda: machine)
    assert pausing.memory_file() is None


def test_where_files_in_memory_may_not_be_executed_catatonit_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_name: str, _flags: int) -> int:
        raise PermissionError(errno.EACCES, "vm.memfd_noexec")

    monkeypatch.setattr(os, "memfd_create", refuse)
    assert pausing.memory_file() is None
