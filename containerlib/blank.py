"""The process inside: made before anybody waits, it sits in fresh namespaces until a message says who it is, then executes.

Over its socket it says `ready`, later `exec TIMINGS`; then the end of the stream is the proof that exec took place. Any
other message is a failure, as JSON: {"failed": what, "step": where}. If the socket ends before an identity came, it exits.
"""

import array
import json
import os
import signal
import socket
import time
from typing import NoReturn

from containerlib.identity import Identity
from containerlib.operations import Operation, WriteFile
from containerlib.plan import argv, blank_plan, environment, identity_plan

NAMESPACES = os.CLONE_NEWNS | os.CLONE_NEWUTS | os.CLONE_NEWIPC | os.CLONE_NEWNET
MESSAGE_BYTES_MAX = 200_000
MOUNTS_MAX = 60
LOG_FDS = (1, 2)


def run(control: socket.socket, stage: str, etc_image: str) -> NoReturn:
    """Never returns, whatever happens: above this frame lies the launcher's loop."""
    step = "unshare"
    try:
        os.unshare(NAMESPACES)
        links = tuple(name for name in ("bin", "sbin", "lib", "lib64") if os.path.lexists(f"/{name}"))
        for operation in blank_plan(stage, etc_image, links):
            step = operation.describe()
            operation.execute()
        _rehearse()
        control.send(b"ready")
        step = "identity"
        identity, mount_fds = _receive(control)
        _become(control, identity, mount_fds)
    except Exception as error:  # noqa: BLE001 - the border of a process: whatever it was is told to the agent
        control.send(json.dumps({"failed": str(error), "step": step}).encode())
    finally:
        os._exit(127)


def _rehearse() -> None:
    """Runs the code that will run when somebody waits: its first run copies the pages that it shares with the launcher."""
    somebody = Identity("x", 1, ("sh",), env={"x": "x"}, mounts=("/x",), address="x", nameservers="x")
    identity = Identity.from_bytes(somebody.to_bytes())
    for operation in identity_plan(identity, (0,), LOG_FDS):
        if isinstance(operation, WriteFile):  # what is written is written anew
            operation.execute()
    argv(identity, _find("sh", environment(identity)["PATH"]))


def _receive(control: socket.socket) -> tuple[Identity, tuple[int, ...]]:
    descriptors = array.array("i")
    message, ancillary, _, _ = control.recvmsg(MESSAGE_BYTES_MAX, socket.CMSG_LEN(MOUNTS_MAX * descriptors.itemsize))
    if not message:
        os._exit(0)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return Identity.from_bytes(message), tuple(descriptors)


def _become(control: socket.socket, identity: Identity, mount_fds: tuple[int, ...]) -> NoReturn:
    began = time.perf_counter()
    operations = identity_plan(identity, mount_fds, LOG_FDS)
    _execute(operations)
    env = environment(identity)
    program = _find(identity.command[0], env["PATH"])
    words = argv(identity, program)
    control.send(b"exec " + str((time.perf_counter() - began) * 1000).encode())
    os.execve(words[0], words, env)


def _find(program: str, path: str) -> str:
    """Found before exec, as the program's own user, so that the reason reaches a person and not only the init's stderr."""
    candidates = [program] if "/" in program else [f"{directory}/{program}" for directory in path.split(":")]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):  # noqa: PTH112
            return candidate
    rule = "is not an executable file in the container" if "/" in program else f"is not in the container's PATH {path}"
    raise FileNotFoundError(f"command {program!r} {rule}")


def _execute(operations: tuple[Operation, ...]) -> None:
    for operation in operations:
        try:
            operation.execute()
        except OSError as error:
            raise OSError(f"{operation.describe()}: {error}") from error


def reset_signals() -> None:
    """Ignored signals outlive exec: Python ignores SIGPIPE, and a program that expects it would spin on a closed pipe."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
