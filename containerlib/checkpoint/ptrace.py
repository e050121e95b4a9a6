"""ptrace(2), as far as halting.py needs it, and the registers of x86-64. Standard library only.

A thread that is followed stops where the kernel has something to tell of it, and goes on when it is told to.
"""

import ctypes
import os
import signal
import struct
from dataclasses import dataclass

PTRACE_SETOPTIONS = 0x4200
PTRACE_GETREGSET = 0x4204
PTRACE_SETREGSET = 0x4205
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
PTRACE_LISTEN = 0x4208
PTRACE_GET_SYSCALL_INFO = 0x420E  # 5.3
PTRACE_DETACH = 17
PTRACE_SYSCALL = 24

PTRACE_O_TRACESYSGOOD = 1
PTRACE_O_TRACEFORK = 1 << 1
PTRACE_O_TRACEVFORK = 1 << 2
PTRACE_O_TRACECLONE = 1 << 3
PTRACE_O_TRACEEXEC = 1 << 4
PTRACE_O_SUSPEND_SECCOMP = 1 << 21
PTRACE_EVENT_STOP = 128

WALL = 0x40000000  # of waitpid: threads, too
SYSCALL_STOP = signal.SIGTRAP | 0x80
_NT_PRSTATUS = 1
_INFO_BYTES = 88
_INFO_ENTRY = 1
_AUDIT_ARCH = {"x86_64": 0xC000003E}
_REGISTERS = 27  # of struct user_regs_struct, 8 bytes each
_RAX, _ORIG_RAX, _RIP = 10, 15, 16
_INSTRUCTION_BYTES = 2  # syscall

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Stop:
    """`event`: PTRACE_EVENT_*, or 0. `signal` is SYSCALL_STOP at the beginning and at the end of a system call."""

    thread: int
    signal: int
    event: int


def call(request: int, thread: int, address: int | None = None, data: object = None) -> int:
    number = int(_libc.ptrace(request, thread, address, data))
    if number < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), f"ptrace {request:#x} of {thread}")
    return number


def wait(thread: int = -1) -> Stop | None:
    """The next stop of one that is followed. None: one ended. Raises ChildProcessError when none is left."""
    pid, status = os.waitpid(thread, WALL)
    return Stop(pid, os.WSTOPSIG(status), status >> 16) if os.WIFSTOPPED(status) else None


def begins(thread: int, number: int) -> bool:
    """It has stopped at the beginning of this system call, which has not been done yet."""
    info = ctypes.create_string_buffer(_INFO_BYTES)
    call(PTRACE_GET_SYSCALL_INFO, thread, _INFO_BYTES, ctypes.addressof(info))
    operation, arch = struct.unpack_from("=BxxxI", info)
    (nr,) = struct.unpack_from("=Q", info, 24)
    return bool(operation == _INFO_ENTRY and arch == _AUDIT_ARCH[os.uname().machine] and nr == number)


def is_supported() -> bool:
    return os.uname().machine in _AUDIT_ARCH


@dataclass(frozen=True, slots=True)
class Registers:
    words: tuple[int, ...]

    @classmethod
    def of(cls, thread: int) -> "Registers":
        buffer = ctypes.create_string_buffer(_REGISTERS * 8)
        vector = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), len(buffer))
        call(PTRACE_GETREGSET, thread, _NT_PRSTATUS, ctypes.addressof(vector))
        return cls(struct.unpack(f"={_REGISTERS}Q", buffer.raw[: _REGISTERS * 8]))

    def set(self, thread: int) -> None:
        buffer = ctypes.create_string_buffer(struct.pack(f"={_REGISTERS}Q", *self.words), _REGISTERS * 8)
        vector = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), len(buffer))
        call(PTRACE_SETREGSET, thread, _NT_PRSTATUS, ctypes.addressof(vector))

    def without_call(self) -> "Registers":
        """The kernel does none, and leaves the rest as it is."""
        return self._with({_ORIG_RAX: (1 << 64) - 1})

    def before_call(self) -> "Registers":
        """At the instruction that makes it, as if it had not been reached. The kernel has it in orig_rax while it is under way; a
        call that it takes for interrupted would be restarted by it, this one is not."""
        number, at = self.words[_ORIG_RAX], self.words[_RIP]
        return self._with({_RAX: number, _RIP: at - _INSTRUCTION_BYTES, _ORIG_RAX: (1 << 64) - 1})

    def _with(self, changes: dict[int, int]) -> "Registers":
        return Registers(tuple(changes.get(place, word) for place, word in enumerate(self.words)))
