"""Profiles of system calls: what is read, what is refused, and what a program may then."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from containerlib import seccomp
from containerlib.checks import SpecError
from containerlib.profiles import Action, Argument, Profile, Rule, parse
from containerlib.spec import Seccomp
from containerlib.spec.seccomp import DANGEROUS

ROOT = Path(__file__).parents[2]
ALLOW = "SCMP_ACT_ALLOW"
X86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of these calls are those of x86_64")
PROGRAM = """
import ctypes, errno, os, sys
sys.path.insert(0, ROOT)
from containerlib import kernel
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    libc.syscall(number, *map(ctypes.c_long, arguments))
    return errno.errorcode.get(ctypes.get_errno(), "done")
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
kernel.set_seccomp_filter(bytes.fromhex(FILTER))
print(call(CALL))
"""


def profile(default: str = "SCMP_ACT_ERRNO", *rules: dict[str, Any], **more: Any) -> str:
    return json.dumps({"defaultAction": default, "syscalls": list(rules), **more})


def test_what_is_read() -> None:
    argument = {"index": 1, "value": 7, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    text = profile(
        "SCMP_ACT_ERRNO",
        {"names": ["read", "write"], "action": ALLOW},
        {"names": ["clone"], "action": "SCMP_ACT_KILL", "args": [argument]},
        defaultErrnoRet=errno.ENOSYS,
        architectures=["SCMP_ARCH_X86_64"],
    )
    killed = Rule("clone", Action("kill_thread"), (Argument(1, "MASKED_EQ", 7, 0),))
    allowed = tuple(Rule(name, Action("allow"), ()) for name in ("read", "write"))
    assert parse(text) == Profile(Action("errno", errno.ENOSYS), (*allowed, killed))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{", "is not JSON"),
        ("[]", "is not an object"),
        (profile("SCMP_ACT_NOTIFY"), r"seccomp.defaultAction: 'SCMP_ACT_NOTIFY' is none of"),
        (profile(listenerPath="/x"), r"seccomp.listenerPath: '/x' cannot be had"),
        (profile(flags=["SECCOMP_FILTER_FLAG_LOG"]), "seccomp.flags.*cannot be had"),
        (profile(ALLOW, {"names": "read", "action": ALLOW}), r"seccomp.syscalls\[0\].names: 'read' is not a list"),
        (profile(ALLOW, {"names": ["read"], "action": "x"}), r"syscalls\[0\].action: 'x' is none of"),
        (profile(ALLOW, {"names": ["read"], "action": ALLOW, "includes": {}}), r"syscalls\[0\].includes: .* cannot be had"),
        (profile(ALLOW, {"names": ["read"], "action": ALLOW, "args": [{"index": 6}]}), r"args\[0\].op: None is none of"),
        (
            profile(ALLOW, {"names": ["read"], "action": ALLOW, "args": [{"index": 6, "op": "SCMP_CMP_EQ", "value": 0}]}),
            r"args\[0\].index: 6 is not from 0 to 5",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        parse(text)


def compiled(wanted: Seccomp, text: str = "") -> bytes:
    return seccomp.compile_own(wanted, parse(text) if text else None)


def outcome(program: bytes, number: int, *arguments: int) -> str:
    words = ", ".join(map(str, (number, *arguments)))
    text = PROGRAM.replace("ROOT", repr(str(ROOT))).replace("FILTER", repr(program.hex())).replace("CALL", words)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    return done.stdout.strip() or str(done.returncode)


UNAME, PERSONALITY, KEYCTL, SOCKET, MLOCK, IO_URING_SETUP = 63, 135, 250, 41, 149, 425
ALL_BUT = profile(ALLOW, {"names": sorted(DANGEROUS), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EACCES})


@X86
@pytest.mark.parametrize(
    ("wanted", "text", "number", "arguments", "expected"),
    [
        (Seccomp(), "", KEYCTL, (), "EPERM"),
        (Seccomp(dangerous=("keyctl",)), "", KEYCTL, (1, 0), "done"),
        (Seccomp(dangerous=("keyctl",)), "", IO_URING_SETUP, (), "ENOSYS"),
        (Seccomp(dangerous=("io_uring_setup",)), "", IO_URING_SETUP, (), "EINVAL"),
        (Seccomp(deny=("personality",)), "", PERSONALITY, (0xFFFFFFFF,), "EPERM"),
        (Seccomp(), "", PERSONALITY, (0xFFFFFFFF,), "done"),
        (Seccomp(deny=("mlock",)), "", MLOCK, (0, 0), "EPERM"),
        (Seccomp(), "", SOCKET, (17, 3, 0), "EAFNOSUPPORT"),
        (Seccomp("/p"), ALL_BUT, UNAME, (0,), "EFAULT"),
        (Seccomp("/p"), ALL_BUT, KEYCTL, (), "EACCES"),
        (Seccomp("/p", dangerous=("keyctl",)), ALL_BUT, KEYCTL, (1, 0), "done"),
        (Seccomp("/p", deny=("uname",)), ALL_BUT, UNAME, (0,), "EPERM"),
        (
            Seccomp("/p"),
            profile(ALLOW, *json.loads(ALL_BUT)["syscalls"], {"names": ["uname"], "action": "SCMP_ACT_KILL_PROCESS"}),
            UNAME, (0,), "-31",
        ),
    ],
)  # fmt: skip
def test_what_a_program_may(wanted: Seccomp, text: str, number: int, arguments: tuple[int, ...], expected: str) -> None:
    assert outcome(compiled(wanted, text), number, *arguments) == expected


@pytest.mark.parametrize(
    ("wanted", "text", "rule"),
    [
        (Seccomp("/p"), profile(ALLOW), "seccomp /p: '[a-z_0-9]+' is dangerous"),
        (Seccomp("/p"), profile("SCMP_ACT_ERRNO", {"names": ["bpf"], "action": ALLOW}), "seccomp /p: 'bpf' is dangerous"),
        (Seccomp("/p"), profile("SCMP_ACT_ERRNO", {"names": ["bpf"], "action": "SCMP_ACT_LOG"}), "'bpf' is dangerous"),
        (Seccomp("/p"), profile("SCMP_ACT_ERRNO", {"names": ["clone"], "action": ALLOW}), "'clone' is dangerous"),
        (Seccomp("/p"), profile(ALLOW, *json.loads(ALL_BUT)["syscalls"], {"names": ["reed"], "action": "SCMP_ACT_KILL"}),
         "'reed' is a system call that libseccomp does not know"),
        (Seccomp(deny=("reed",)), "", "'reed' is a system call that libseccomp does not know"),
    ],
)  # fmt: skip
def test_what_cannot_be_compiled(wanted: Seccomp, text: str, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        compiled(wanted, text)


def test_what_a_profile_divides_by_arguments_is_not_dangerous() -> None:
    argument = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
    assert compiled(
        Seccomp("/p"), profile("SCMP_ACT_ERRNO", {"names": ["socket"], "action": ALLOW, "args": [argument]})
    )


def test_everything_that_the_usual_list_refuses_is_dangerous() -> None:
    assert set(seccomp.REFUSED) | set(seccomp.OF_THE_BLANK) - {"sethostname"} <= set(DANGEROUS)
    assert not set(seccomp.ALLOWED) & set(DANGEROUS)
