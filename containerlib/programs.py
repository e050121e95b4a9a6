"""The one way to start a program of an image build: PATH, environment, time limit, output and end are decided here.

A program runs in pid and mount namespaces of its own (cell.py): when its time is over, when the build fails or when this
process is killed, it goes with all its descendants and mounts. Its output is passed on line by line; the end of it is kept,
for the error, together with the command as it can be pasted into a shell. There is no shell here. Needs root.
"""

import contextlib
import functools
import json
import logging
import os
import selectors
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from containerlib.bounds import bounded, complaint
from containerlib.cell import Container, Order
from containerlib.cgroups import Group, Limits
from containerlib.plan import DEFAULT_PATH
from containerlib.process import describe_status
from containerlib.seccomp import compile_filter

TAIL_LINES = 20
LINE_BYTES_MAX = 2_000
STDOUT_BYTES_MAX = 1 << 20
END_S = 10.0  # for the kernel to take a killed cell apart

# Program -> Debian package, where they differ or the name alone would not tell.
PACKAGES = {"cp": "coreutils"}
_PASSED_ON = (
    "HOME",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "XDG_RUNTIME_DIR",
)
_CELL = Path(__file__).with_name("cell.py")
_log = logging.getLogger(__name__)


class ProgramError(RuntimeError):
    """A program that could not be started, failed or took too long. `tail`: the end of its output."""

    def __init__(
        self, command: str, how: str, tail: Sequence[str] = (), remedy: str = "", *, inside: bool = False
    ) -> None:
        lines = [how]
        if tail:
            lines += ["the end of its output:", *(f"    {line}" for line in tail)]
        lines += ["the command, in the root as a container:" if inside else "the command:", f"    {command}"]
        lines += [remedy] if remedy else []
        super().__init__("\n".join(lines))
        self.command, self.how, self.tail, self.remedy = command, how, tuple(tail), remedy


@dataclass(slots=True)
class _Output:
    """Of one pipe: whole lines go to `on_line` and into the common tail."""

    tail: deque[str]
    on_line: Callable[[str], None]
    kept: bytearray
    rest: bytes = b""

    def feed(self, data: bytes) -> None:
        self.kept += data[: STDOUT_BYTES_MAX - len(self.kept)]
        *lines, self.rest = (self.rest + data).replace(b"\r", b"\n").split(b"\n")
        if len(self.rest) > LINE_BYTES_MAX:
            lines, self.rest = [*lines, self.rest], b""
        for line in lines:
            self.tell(line)

    def tell(self, line: bytes) -> None:
        text = line[:LINE_BYTES_MAX].decode(errors="replace").rstrip()
        if text:
            self.tail.append(text)
            self.on_line(text)


@dataclass(slots=True)
class Bound:
    """`complaint`: what it wanted more of, once it has ended."""

    group: Group
    limits: Limits
    complaint: str = ""


def run(
    command: Sequence[str | Path],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path = Path("/"),
    container: Container | None = None,
    held: Sequence[int] = (),
    on_line: Callable[[str], None] = lambda _line: None,
    remedy: str = "",
    limits: Limits | None = None,
) -> str:
    """Runs it to its end and returns what it wrote to stdout (the first MiB).

    `env` comes on top of PATH and LANG, and on the host of HOME and the proxies' addresses. `held` are descriptors that stay open
    for as long as anything of the program lives. `limits` count for all of it together. Raises ProgramError, with `remedy` as its
    last line, and OSError where limits cannot be had.
    """
    words = tuple(str(word) for word in command)
    whole_env = {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8", **({} if container else _own_environment()), **(env or {})}
    shown = describe(words, env or {}, cwd)
    if container is None:
        words = (_find(words[0], shown), *words[1:])
    _log.debug("%s", shown)
    order = Order(words, whole_env, str(cwd), container, system_calls=_system_calls() if container else "")
    started = time.monotonic()
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    deadline = started + timeout_s
    with contextlib.ExitStack() as stack:
        bound = None if limits is None else Bound(stack.enter_context(bounded(limits)), limits)
        report, stdout, in_time = _run_cell(order, held, deadline, tail, on_line, bound)
    how = _failure(report, in_time, timeout_s, time.monotonic() - started)
    if how:
        remedy = bound.complaint if bound and bound.complaint else remedy
        raise ProgramError(shown, f"{words[0]} {how}", tail, remedy, inside=container is not None)
    return stdout


def _failure(report: Mapping[str, object], in_time: bool, limit_s: float, took_s: float) -> str:
    """In words; empty if there is none."""
    if not in_time:
        return f"did not end within {limit_s:g} s"
    if "failed" in report:
        return f"could not be started: {report['failed']} ({report['step']})"
    status = report.get("status")
    return "" if status == 0 else f"{describe_status(status if isinstance(status, int) else None)} after {took_s:.1f} s"


def describe(words: Sequence[str], env: Mapping[str, str], cwd: Path) -> str:
    """As somebody would type it."""
    place = [] if cwd == Path("/") else ["-C", str(cwd)]
    assignments = [f"{name}={value}" for name, value in env.items()]
    return shlex.join([*(["env", *place, *assignments] if place or assignments else []), *words])


@functools.cache
def _system_calls() -> str:
    return compile_filter().hex()


def _own_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def _find(program: str, shown: str) -> str:
    found = shutil.which(program, path=DEFAULT_PATH)
    if found is None:
        package = PACKAGES.get(program, program)
        raise ProgramError(shown, f"{program} is not installed", (), f"install the package {package}, then build again")
    return found


def _run_cell(
    order: Order,
    held: Sequence[int],
    deadline: float,
    tail: deque[str],
    on_line: Callable[[str], None],
    bound: Bound | None,
) -> tuple[dict[str, object], str, bool]:
    if bound:
        directories = tuple(map(str, bound.group.directories()))
        order = replace(order, groups=directories, entrances=bound.group.entrances())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, os.fdopen(os.memfd_create("order"), "r+b") as order_file:
        order_file.write(order.to_bytes())
        order_file.seek(0)
        passed = (theirs.fileno(), order_file.fileno(), *held)
        cell = subprocess.Popen(
            [sys.executable, "-SI", _CELL, *(str(fd) for fd in passed)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=passed,
            start_new_session=True,
        )
        try:
            theirs.close()
            assert cell.stdout is not None and cell.stderr is not None
            stdout = _Output(tail, on_line, bytearray())
            in_time = _read(((cell.stdout, stdout), (cell.stderr, _Output(tail, on_line, bytearray()))), deadline)
            if in_time:
                message = ours.recv(65_536)
                return json.loads(message or b"{}"), stdout.kept.decode(errors="replace"), True
            return {}, "", False
        finally:
            if bound:
                bound.complaint = complaint(bound.group, bound.limits)
            ours.close()  # which ends the cell, if it has not ended
            _wait(cell)


def _read(pipes: Sequence[tuple[BinaryIO | object, _Output]], deadline: float) -> bool:
    """Until both pipes end, which is when nothing of the program is left. False: time was over first."""
    with selectors.DefaultSelector() as selector:
        for pipe, output in pipes:
            selector.register(pipe, selectors.EVENT_READ, output)  # type: ignore[arg-type]
        while selector.get_map():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            for key, _ in selector.select(left_s):
                data = os.read(key.fd, 65_536)
                if data:
                    key.data.feed(data)
                else:
                    key.data.tell(key.data.rest)
                    selector.unregister(key.fileobj)
    return True


def _wait(cell: "subprocess.Popen[bytes]") -> None:
    try:
        cell.wait(END_S)
    except subprocess.TimeoutExpired:
        cell.kill()  # it is stuck in the kernel, with what it waits for; PID 1 of the inside dies with it
        cell.wait()
    for pipe in (cell.stdout, cell.stderr):
        assert pipe is not None
        pipe.close()
