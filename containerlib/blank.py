"""The process inside: made before anybody waits, it sits in fresh namespaces until a message says who it is, then executes.

Over its socket it says `ready`, and later `exec`, right before it executes or, with a pidfd of the program, after it has spawned
it. Any other message is a failure, as JSON: {"failed": what, "step": where}. If the socket ends before an identity came, it exits.

Spawning is faster: to execute, the kernel must first take this process's memory apart (1.3 ms when nothing of it is in the
CPU's caches), then the init starts (0.5 ms), then the program. Spawned, the program starts in this process's memory and the
init replaces it afterwards. But then the program is nobody's to wait for: the init reaps it. So it is done where the kernel
keeps the exit status for whoever holds a pidfd (6.15).
"""

import array
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import NoReturn

from containerlib import pausing
from containerlib.identity import Identity
from containerlib.operations import EnterGroup, LoadFilter, Operation, WriteFile
from containerlib.plan import PAUSE, SharedMounts, argv, blank_plan, environment, identity_plan, naming_plan
from containerlib.shared import Kept
from containerlib.userns import UserNamespace, make_user_namespace

NAMESPACES = os.CLONE_NEWNS | os.CLONE_NEWUTS | os.CLONE_NEWIPC | os.CLONE_NEWNET
MESSAGE_BYTES_MAX = 200_000
MOUNTS_MAX = 60
LOG_FDS = (1, 2)
HEAD_START_S = 0.05  # of the program before its init: both begin on one CPU, and the exec of this process takes a while


def run(
    control: socket.socket,
    stage: str,
    etc_image: str,
    filter: bytes,
    entrances: tuple[str, ...],
    *,
    mapped: bool,
    own_filter: bool = False,
    pause: int | None = None,
    shared: Kept | None = None,
) -> NoReturn:
    """Never returns, whatever happens: above this frame lies the launcher's loop. `filter`: of system calls. `entrances`: of its
    control groups. `mapped`: in a user namespace of its own. `own_filter`: it is one program's, loaded
    last of all, for it may refuse what is done before. `pause`: pausing.memory_file. `shared`: None if it mounts its own."""
    step = "control groups"
    try:
        execute(tuple(EnterGroup(path) for path in entrances))
        step = "shared mounts"
        mounts = _take(shared)
        step = "unshare"
        os.unshare(NAMESPACES)
        links = tuple(name for name in ("bin", "sbin", "lib", "lib64") if os.path.lexists(f"/{name}"))
        for operation in blank_plan(stage, etc_image, links, mounts):
            step = operation.describe()
            operation.execute()
        step = "user namespace"
        namespace = make_user_namespace() if mapped else None
        _rehearse()
        import_nothing_more()
        step = "filter"
        if not own_filter:
            LoadFilter(filter).execute()
        control.send(b"ready")
        step = "identity"
        message, terminal = receive(control)
        identity = Identity.from_bytes(message)
        execute(naming_plan(identity, mapped=mapped))
        # A message of its own: opening them takes the agent as long as the names take us.
        mount_fds = receive(control)[1] if identity.mounts else ()
        execute(identity_plan(identity, mount_fds, LOG_FDS, namespace, control.fileno(), terminal))
        if own_filter:
            execute((LoadFilter(filter),))
        start(control, identity, pause)
    except Exception as error:  # noqa: BLE001 - the border of a process: whatever it was is told to the agent
        control.send(json.dumps({"failed": str(error), "step": step}).encode())
    finally:
        os._exit(127)


def _take(shared: Kept | None) -> SharedMounts | None:
    if shared is None:
        return None
    mounts = shared.take()
    shared.close()
    return mounts


def import_nothing_more() -> None:
    """Mounts are attached as root, and one may lie where Python looks for modules: a tenant's, and it would run as root."""
    sys.meta_path.clear()


def _rehearse() -> None:
    """Runs the code that will run when somebody waits: its first run copies the pages that it shares with the launcher."""
    somebody = Identity("x", 1, ("sh",), env={"x": "x"}, mounts=("/x",), address="x")
    identity = Identity.from_bytes(somebody.to_bytes())
    identity_plan(identity, (0,), LOG_FDS, UserNamespace(0, 0, 0))
    for operation in naming_plan(identity, mapped=True):
        if isinstance(operation, WriteFile):  # what is written is written anew
            operation.execute()
    argv(identity, _find("sh", environment(identity)["PATH"]))


def receive(control: socket.socket) -> tuple[bytes, tuple[int, ...]]:
    descriptors = array.array("i")
    message, ancillary, _, _ = control.recvmsg(MESSAGE_BYTES_MAX, socket.CMSG_LEN(MOUNTS_MAX * descriptors.itemsize))
    if not message:
        os._exit(0)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return message, tuple(descriptors)


def start(control: socket.socket, identity: Identity, pause: int | None) -> NoReturn:
    env = environment(identity)
    program = _find(identity.command[0], env["PATH"])
    if identity.init and identity.spawn:
        # A group of its own, so that the stop signal reaches what a shell started, too.
        pid = os.posix_spawn(program, (program, *identity.command[1:]), env, setpgroup=0)
        socket.send_fds(control, [b"exec"], [os.pidfd_open(pid)])
        time.sleep(HEAD_START_S)
        if pause is not None:
            _leave_reaping_to_the_kernel()
            os.execve(pause, pausing.ARGV, {})
        os.execve(PAUSE[0], PAUSE, {})
    words = argv(identity, program)
    control.send(b"exec")
    os.execve(words[0], words, env)


def _leave_reaping_to_the_kernel() -> None:
    """Not before the program's pidfd is open: it may have ended at once."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _find(program: str, path: str) -> str:
    """Found before exec, as the program's own user, so that the reason reaches a person and not only the init's stderr."""
    candidates = [program] if "/" in program else [f"{directory}/{program}" for directory in path.split(":")]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):  # noqa: PTH112
            return candidate
    rule = "is not an executable file in the container" if "/" in program else f"is not in the container's PATH {path}"
    raise FileNotFoundError(f"command {program!r} {rule}")


def execute(operations: tuple[Operation, ...]) -> None:
    for operation in operations:
        try:
            operation.execute()
        except OSError as error:
            raise OSError(f"{operation.describe()}: {error}") from error


def reset_signals() -> None:
    """Ignored signals outlive exec: Python ignores SIGPIPE, and a program that expects it would spin on a closed pipe; a shell
    ignores SIGQUIT for what it starts in the background, nohup SIGHUP."""
    for number in signal.valid_signals():
        ours = number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
        if ours or signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
