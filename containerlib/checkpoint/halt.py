"""Halts a process right before it makes a certain system call for the first time, with all that its ancestors and it forked
followed from a first process on.

    python -SI containerlib/checkpoint/halt.py PID NUMBER
    -> followed         whatever PID does from now on is seen
    -> halted PID       its next step is the instruction that makes the call, SIGSTOP waits for it, and this process ends
    -> ended            all of them have, without it

A program of its own, for who follows a process hears of its threads by waitpid, and they are let go when it ends, whatever ends it:
then they run on. Each system call of theirs costs two switches to here and back meanwhile, some 50 us: it is done once for an
image. Standard library only, x86-64 only.
"""

import os
import signal
import sys
from contextlib import suppress

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120 - -I removed it

from containerlib.checkpoint import ptrace
from containerlib.checkpoint.ptrace import Registers, Stop

OPTIONS = (
    ptrace.PTRACE_O_TRACESYSGOOD
    | ptrace.PTRACE_O_TRACEFORK
    | ptrace.PTRACE_O_TRACEVFORK
    | ptrace.PTRACE_O_TRACECLONE
    | ptrace.PTRACE_O_TRACEEXEC
)


def follow(pid: int) -> None:
    ptrace.call(ptrace.PTRACE_SEIZE, pid, None, OPTIONS)
    ptrace.call(ptrace.PTRACE_INTERRUPT, pid)  # its first stop; from there on it stops at each call


def halt(number: int) -> int | None:
    """The process that stands still; None when there is nobody left."""
    with suppress(ChildProcessError):
        while True:
            stop = ptrace.wait()
            if stop is None:
                continue
            with suppress(ProcessLookupError):  # it was killed while it stood still, which is told next
                if stop.signal == ptrace.SYSCALL_STOP and ptrace.begins(stop.thread, number):
                    if (process := _hold(stop.thread)) is not None:
                        return process
                else:
                    _go_on(stop)
    return None


def _go_on(stop: Stop) -> None:
    if stop.event == ptrace.PTRACE_EVENT_STOP and stop.signal != signal.SIGTRAP:
        ptrace.call(ptrace.PTRACE_LISTEN, stop.thread)  # SIGSTOP and its like: it is to stand still until SIGCONT
        return
    is_signal = not stop.event and stop.signal != ptrace.SYSCALL_STOP
    ptrace.call(ptrace.PTRACE_SYSCALL, stop.thread, None, stop.signal if is_signal else 0)


def _hold(thread: int) -> int | None:
    """Of a thread that is about to make the call: it makes none instead, and goes back to the instruction. Its filter of system
    calls is not asked about that, for it may end a program for a call without a number. None: it was killed."""
    registers = Registers.of(thread)
    ptrace.call(ptrace.PTRACE_SETOPTIONS, thread, None, OPTIONS | ptrace.PTRACE_O_SUSPEND_SECCOMP)
    registers.without_call().set(thread)
    ptrace.call(ptrace.PTRACE_SYSCALL, thread)
    stop = ptrace.wait(thread)
    if stop is None:
        return None
    registers.before_call().set(thread)
    ptrace.call(ptrace.PTRACE_SETOPTIONS, thread, None, OPTIONS)
    process = _process_of(thread)
    ptrace.call(ptrace.PTRACE_DETACH, thread, None, int(signal.SIGSTOP))
    return process


def _process_of(thread: int) -> int:
    with open(f"/proc/{thread}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))


def main(words: list[str]) -> None:
    pid, number = map(int, words)
    follow(pid)
    sys.stdout.write("followed\n")
    sys.stdout.flush()
    process = halt(number)
    sys.stdout.write("ended\n" if process is None else f"halted {process}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(str(error))
