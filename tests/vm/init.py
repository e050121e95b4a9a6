"""PID 1 of the guest: mounts what systemd would have mounted, runs the one command it was given, reaps, switches off.

    python -SI init.py        # reads /run/vm/job.json; writes /run/vm/output and /run/vm/status

Standard library only.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from types import FrameType

SHARE = Path("/run/vm")
TEMPORARY = Path("/run/tmp")
CONTROLLERS = ("cpu", "memory", "pids", "io", "cpuset")
RB_POWER_OFF = 0x4321FEDC
TIMED_OUT = 124
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    job = json.loads((SHARE / "job.json").read_text())
    signal.signal(signal.SIGALRM, _time_is_over)
    signal.alarm(job["limit_s"])  # whether anybody outside still waits or not
    status = 1
    with (SHARE / "output").open("wb", buffering=0) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        try:
            _set_up()
            status = _run(job)
        except TimeoutError:
            print(f"not done within {job['limit_s']} s")
            status = TIMED_OUT
        except Exception:  # noqa: BLE001 - the border of a process: whoever booted us is told
            traceback.print_exc()
        sys.stdout.flush()
    (SHARE / "status.new").write_text(str(status))
    (SHARE / "status.new").rename(SHARE / "status")
    os.sync()
    _libc.reboot(RB_POWER_OFF)


def _time_is_over(number: int, frame: FrameType | None) -> None:
    raise TimeoutError


def _set_up() -> None:
    TEMPORARY.mkdir(mode=0o1777)
    TEMPORARY.chmod(0o1777)
    for kind, place, data in (
        ("devpts", "/dev/pts", b"mode=620,ptmxmode=666"),
        ("tmpfs", "/dev/shm", b"mode=1777"),
        ("cgroup2", "/sys/fs/cgroup", b""),
        ("tracefs", "/sys/kernel/tracing", b""),
        ("securityfs", "/sys/kernel/security", b""),
    ):
        _mount(kind, place, data)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        if not os.path.lexists(f"/dev/{name}"):
            Path("/dev", name).symlink_to(target)
    Path("/sys/fs/cgroup/cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in CONTROLLERS))
    socket.sethostname("vm")
    subprocess.run(("/usr/sbin/ip", "link", "set", "lo", "up"), check=True)
    # The only disk, of 16 MiB of memory: some tests want to reach for one.
    subprocess.run(("/usr/sbin/modprobe", "brd", "rd_nr=1", "rd_size=16384"), check=True)


def _mount(kind: str, place: str, data: bytes) -> None:
    Path(place).mkdir(parents=True, exist_ok=True)
    if _libc.mount(kind.encode(), place.encode(), kind.encode(), 0, data) < 0:
        raise OSError(ctypes.get_errno(), f"mount {kind}", place)


def _run(job: dict) -> int:
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    (SHARE / "began").write_text(json.dumps({"kernel": os.uname().release, "up_s": up_s}))
    environment = {**job["environment"], "HOME": "/root", "TMPDIR": str(TEMPORARY), "TERM": "dumb"}
    child = subprocess.Popen(job["command"], cwd=job["directory"], env=environment, stdin=subprocess.DEVNULL)
    while True:  # whatever is orphaned comes to us, too
        pid, status = os.wait()
        if pid == child.pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode


if __name__ == "__main__":
    main()
