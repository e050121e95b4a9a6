"""Questions about a process that is not our child, answered from /proc and a pidfd."""

import os
import select
import signal
import struct
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

_PIDFD_GET_INFO = (
    0xC0000000 | 64 << 16 | 0xFF << 8 | 11
)  # _IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info), 64 bytes as in 6.13
_PIDFD_INFO_EXIT = 1 << 3  # 6.15: the exit code is kept for whoever holds a pidfd


def start_time(pid: int) -> int | None:
    """Clock ticks since boot: with the number itself it names a process for good. None: there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses and may hold anything, so count from its end.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


@dataclass(frozen=True, slots=True)
class Dispositions:
    """Bit N-1 of a mask stands for signal N."""

    ignored: int
    caught: int

    def ignores(self, number: signal.Signals) -> bool:
        return bool(self.ignored >> (number - 1) & 1)

    def catches(self, number: signal.Signals) -> bool:
        return bool(self.caught >> (number - 1) & 1)


def dispositions(pid: int) -> Dispositions | None:
    masks = _signal_masks(pid)
    return None if masks is None else Dispositions(masks["SigIgn"], masks["SigCgt"])


def was_killed(pid: int) -> bool:
    """SIGKILL was sent to it, which with cgroup v1 a frozen process does not die of; or it is no more."""
    masks = _signal_masks(pid)
    return masks is None or bool((masks["SigPnd"] | masks["ShdPnd"]) >> (signal.SIGKILL - 1) & 1)


def _signal_masks(pid: int) -> dict[str, int] | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    pairs = (line.partition(":") for line in lines)
    return {key: int(value, 16) for key, _, value in pairs if key in ("SigPnd", "ShdPnd", "SigIgn", "SigCgt")}


def pid_of(pidfd: int) -> int:
    """As this process numbers it; 0 or less when it has ended."""
    lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pid:")).split()[1])


def has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def stop_is_pointless(pid: int, *, init: bool, number: signal.Signals = signal.SIGTERM) -> bool:
    """The stop signal would change nothing: PID 1 of a container is spared every signal that it does not catch, and any program
    may ignore one."""
    if not init:
        found = dispositions(pid)
        return found is not None and not found.catches(number)
    programs = [found for child in children(pid) if (found := dispositions(child))]
    return bool(programs) and all(found.ignores(number) for found in programs)


def wait_status(pidfd: int) -> int | None:
    """The wait status of a process that has ended and was reaped by somebody else; None where the kernel does not keep it."""
    request = bytearray(struct.pack("=QQ48x", _PIDFD_INFO_EXIT, 0))
    try:
        ioctl(pidfd, _PIDFD_GET_INFO, request)
    except OSError:
        return None
    mask, *_, status = struct.unpack("=QQ11Ii", request)
    return int(status) if mask & _PIDFD_INFO_EXIT else None


def exit_status_is_kept() -> bool:
    """Tried with a child of our own."""
    pid = os.posix_spawn("/bin/true", ("true",), {})
    pidfd = os.pidfd_open(pid)
    try:
        os.waitpid(pid, 0)
        return wait_status(pidfd) == 0
    finally:
        os.close(pidfd)


def describe_status(status: int | None) -> str:
    if status is None:
        return "ended (how is not known: its parent was gone)"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        known = number in signal.Signals.__members__.values()  # a real-time signal has no name
        return f"was killed by {signal.Signals(number).name if known else f'signal {number}'}"
    code = os.waitstatus_to_exitcode(status)
    return f"exited with code {code}"
