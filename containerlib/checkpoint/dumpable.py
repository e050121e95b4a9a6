"""A blank whose container CRIU can dump: its namespaces belong to its own user namespace, which CRIU asks of all that it dumps.

The usual blank makes them first and enters a user namespace last, so they belong to the host's. Here the user namespace is made
first, mapped at once, for it is known whose container it will be. Nobody waits for it meanwhile.

    this process     root of the host, in the container's namespaces but for the user and pid namespaces. It makes and mounts what
                     only the host's root may, by the same operations as ever, then ends
      a child        enters the user namespace, makes the others inside of it, forks, ends
        PID 1        root of that user namespace; waits for its identity, becomes its user, executes

PID 1 opens its standard input
and output anew, by names that its own root has; CRIU finds no file that came from outside.

Says on its socket what a blank says; with `ready` comes a pidfd of PID 1. Standard library only.
"""

import json
import os
import socket
from typing import NoReturn

from containerlib import idmap
from containerlib.blank import NAMESPACES, execute, import_nothing_more, receive, start
from containerlib.identity import Identity
from containerlib.operations import (
    AttachMount,
    BecomeUser,
    ChangeDirectory,
    EnterCgroupNamespace,
    EnterGroup,
    GiveAway,
    LeaveSessionKeyring,
    LoadFilter,
    OpenStandard,
    PauseAtGate,
)
from containerlib.plan import LOGS, limits_plan, naming_plan, rights_plan, root_plan

OWNED = NAMESPACES | os.CLONE_NEWPID


def run(
    control: socket.socket, stage: str, etc_image: str, filter: bytes, entrances: tuple[str, ...], base: int
) -> NoReturn:
    """Never returns. `base`: the first of the container's ids on the host."""
    step = "control groups"
    try:
        execute(tuple(EnterGroup(path) for path in entrances))
        step = "unshare"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = _make_first(control, ours, theirs, filter, base)
        pidfd = os.pidfd_open(pid)
        theirs.close()
        step = "namespaces"
        os.setns(pidfd, OWNED)
        step = "root"
        _in_child(stage, etc_image)
        os.chdir("/")
        socket.send_fds(control, [b"ready"], [pidfd])
        import_nothing_more()
        step = "identity"
        message, _ = receive(control)
        identity = Identity.from_bytes(message)
        fds = receive(control)[1]
        execute(naming_plan(identity, mapped=True))
        execute(tuple(AttachMount(fd, target) for fd, target in zip(fds, identity.mounts, strict=True)))
        execute((PauseAtGate(control.fileno()),) if identity.gate else ())
        owner = idmap.outside(base, identity.user)
        execute((GiveAway((1, 2), owner),))
        ours.send(message)
    except Exception as error:  # noqa: BLE001 - the border of a process: whatever it was is told to the agent
        control.send(json.dumps({"failed": str(error), "step": step}).encode())
    finally:
        os._exit(0)


def _make_first(control: socket.socket, ours: socket.socket, theirs: socket.socket, filter: bytes, base: int) -> int:
    """PID 1 of fresh namespaces, by its number here."""
    told, tell = os.pipe()
    hold, go = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ours.close()
            os.close(go)
            _enter_and_fork(control, theirs, filter, tell, hold)
        finally:
            os._exit(1)
    os.close(tell)
    os.close(hold)
    try:
        if os.read(told, 1) != b"u":
            raise OSError("the user namespace could not be made")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(idmap.map_text(base))
        os.write(go, b"m")
        word = os.read(told, 20)
        if not word:
            raise OSError("the namespaces could not be made")
        return int(word)
    finally:
        os.close(told)
        os.close(go)
        os.waitpid(child, 0)


def _enter_and_fork(control: socket.socket, own: socket.socket, filter: bytes, tell: int, hold: int) -> None:
    os.unshare(os.CLONE_NEWUSER)
    os.write(tell, b"u")
    os.read(hold, 1)
    os.close(hold)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.unshare(OWNED)
    pid = os.fork()
    if pid == 0:
        os.close(tell)
        _first(control, own, filter)
    os.write(tell, str(pid).encode())
    os._exit(0)


def _first(control: socket.socket, own: socket.socket, filter: bytes) -> NoReturn:
    """PID 1. Its root is what the process outside made of it by the time that it hears who it is."""
    try:
        os.setsid()
        execute(limits_plan())
        import_nothing_more()
        message = own.recv(1 << 20)
        if not message:
            os._exit(0)
        own.close()
        identity = Identity.from_bytes(message)
        execute((LeaveSessionKeyring(), EnterCgroupNamespace(), *rights_plan(identity.capabilities)))
        user = BecomeUser(identity.user, identity.group, identity.groups, identity.capabilities)
        execute((user, OpenStandard("/dev/null", LOGS)))
        # The filter last: one program's own may refuse what comes before.
        execute((ChangeDirectory(identity.workdir), LoadFilter(filter)))
        # An init with a file that CRIU can name.
        start(control, identity, pause=None)
    except Exception as error:  # noqa: BLE001 - the border of a process
        control.send(json.dumps({"failed": str(error), "step": "identity"}).encode())
    finally:
        os._exit(127)


def _in_child(stage: str, etc_image: str) -> None:
    """Of this process only children are in the pid namespace, and /proc is that of whoever mounts it."""
    links = tuple(name for name in ("bin", "sbin", "lib", "lib64") if os.path.lexists(f"/{name}"))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for operation in root_plan(stage, etc_image, links):
                try:
                    operation.execute()
                except OSError as error:
                    raise OSError(f"{operation.describe()}: {error}") from error
        except Exception as error:  # noqa: BLE001 - the border of a process
            os.write(writing, str(error).encode()[:2000])
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        failure = pipe.read().decode()
    os.waitpid(child, 0)
    if failure:
        raise OSError(failure)
