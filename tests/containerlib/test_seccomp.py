"""The filter, loaded for real: what is refused how, and that what sites need goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from containerlib import seccomp

ROOT = Path(__file__).parents[2]
PRELUDE = f"""
import ctypes, errno, os, socket, sys, threading
sys.path.insert(0, {str(ROOT)!r})
from containerlib import kernel, seccomp
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    return errno.errorcode[ctypes.get_errno()] if libc.syscall(number, *map(ctypes.c_long, arguments)) < 0 else "done"
def attempt(function, *arguments):
    try: function(*arguments)
    except OSError as error: return errno.errorcode[error.errno]
    return "done"
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
kernel.set_seccomp_filter(seccomp.compile_filter())
"""


def filtered(expression: str) -> str:
    program = f"{PRELUDE}\nprint({expression})"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


X86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of these calls are those of x86_64")


@X86
@pytest.mark.parametrize(
    ("what", "expression", "outcome"),
    [
        ("a process", "attempt(lambda: os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0))", "done"),
        ("a thread", "attempt(lambda: threading.Thread(target=print).start())", "done"),
        ("a TCP socket", "attempt(lambda: socket.socket().close())", "done"),
        ("who am I", "attempt(os.uname)", "done"),
        ("vsock", "attempt(socket.socket, socket.AF_VSOCK)", "EAFNOSUPPORT"),
        ("alg", "attempt(socket.socket, socket.AF_ALG, socket.SOCK_SEQPACKET)", "EAFNOSUPPORT"),
        ("packet", "attempt(socket.socket, socket.AF_PACKET, socket.SOCK_RAW)", "EAFNOSUPPORT"),
        ("a family beyond all", "attempt(socket.socket, 99)", "EAFNOSUPPORT"),
        ("a user namespace by unshare", "attempt(os.unshare, os.CLONE_NEWUSER)", "EPERM"),
        ("a user namespace by clone", "call(56, os.CLONE_NEWUSER | 17, 0, 0, 0, 0)", "EPERM"),
        ("clone3", "call(435, 0, 0)", "ENOSYS"),
        ("mount", "call(165, 0, 0, 0, 0, 0)", "EPERM"),
        ("keyctl", "call(250, 0, 0)", "EPERM"),
        ("bpf", "call(321, 0, 0, 0)", "EPERM"),
        ("userfaultfd", "call(323, 0)", "EPERM"),
        ("perf_event_open", "call(298, 0, 0, 0, 0, 0)", "EPERM"),
        ("ptrace", "call(101, 0, 0, 0, 0)", "EPERM"),
        ("io_uring_setup", "call(425, 1, 0)", "ENOSYS"),
        ("a call that is not there yet", "call(1000)", "ENOSYS"),
        ("setns", "call(308, 0, 0)", "EPERM"),
        ("personality: which is it", "call(135, 0xFFFFFFFF)", "done"),
        ("personality: without address randomisation", "call(135, 0x0040000)", "ENOSYS"),
    ],
)
def test_what_a_program_may(what: str, expression: str, outcome: str) -> None:
    assert filtered(expression).splitlines()[-1] == outcome


@X86
@pytest.mark.parametrize(
    ("flag", "unshared", "joined"),
    [("os.CLONE_NEWCGROUP", "done", "EPERM"), ("os.CLONE_NEWUSER", "EPERM", "EBADF"), ("os.CLONE_NEWNS", "EPERM", "EPERM"),
     ("os.CLONE_NEWCGROUP | os.CLONE_NEWUSER", "EPERM", "EPERM"), ("0", "EPERM", "EPERM")],
)  # fmt: skip
def test_of_what_a_blank_needs_itself_no_more_is_let_through(flag: str, unshared: str, joined: str) -> None:
    """As root: in a container the kernel refuses these too, for want of a capability."""
    assert filtered(f"attempt(os.unshare, {flag})") == unshared
    assert filtered(f"call(308, -1, {flag})") == joined


@X86
def test_a_call_by_the_numbers_of_another_architecture_ends_the_program() -> None:
    x32 = 0x40000000
    program = f"{PRELUDE}\nlibc.syscall({x32} + 39)\nprint('alive')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-31, "")  # SIGSYS


def test_no_call_is_on_two_lists() -> None:
    every = (
        *seccomp.ALLOWED,
        *seccomp.REFUSED,
        *seccomp.OF_THE_BLANK,
        "clone",
        "personality",
        "setns",
        "socket",
        "unshare",
    )
    assert len(set(every)) == len(every)
