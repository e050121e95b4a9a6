"""A blank that restores an image, in its own control groups: what is restored is the launcher's child once this process has ended.

It makes the root that CRIU is to put under the restored processes, with the files that the dumped ones had (those that tell who
it is written anew), and has CRIU do the rest. CRIU stops twice for it, by the script SCRIPT: with the namespaces made, so that they
can be wired before a socket is bound; and with everything restored, before it runs, so that it finds its new host name.

    -> Work, as JSON; then the mounts that the image has from outside, as descriptors
    <- ready, with a pidfd of PID 1; it is to be wired now
    -> go
    <- exec: it runs.   As ever, any other message is a failure
Standard library only.
"""

import json
import os
import select
import socket
import stat
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from containerlib import kernel
from containerlib.blank import execute, receive
from containerlib.checkpoint.log import essence
from containerlib.operations import (
    DetachMountTree,
    EnterGroup,
    LeaveSessionKeyring,
    MakeDirectory,
    MountTmpfs,
    SetHostname,
    WriteFile,
)
from containerlib.plan import DEFAULT_PATH, GENERATED, ROOT_BYTES, ROOT_INODES, network_plan

NAMESPACES = os.CLONE_NEWNS | os.CLONE_NEWCGROUP
# $0.told and $0.go are FIFOs. A moment at which nothing is said goes on at once.
SCRIPT = """#!/bin/sh
case "$CRTOOLS_SCRIPT_ACTION" in
setup-namespaces | post-restore) echo "$CRTOOLS_INIT_PID" >"$0.told" && read -r answer <"$0.go" && [ "$answer" = go ] ;;
esac
"""
# In a mount namespace of our own. Whoever is restored must be able to reach it as nobody, which the run directory does not promise.
STAGE = "/mnt"
STAGE_BYTES, STAGE_INODES = 4 << 20, 1000
FILES = "root.tar"
LOG = "restore.log"
LOG_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Work:
    """`criu`: how it is started, and what it is told beside where things are. `mounts`: (key, target) of the next message's
    descriptors. `files`: name -> text, of those that the container's start writes."""

    criu: tuple[str, ...]
    options: tuple[str, ...]
    image: str
    mounts: tuple[tuple[str, str], ...]
    hostname: str
    files: dict[str, str]

    def to_bytes(self) -> bytes:
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()

    @classmethod
    def from_bytes(cls, message: bytes) -> "Work":
        values = json.loads(message)
        mounts = tuple((key, target) for key, target in values.pop("mounts"))
        criu, options = (tuple(values.pop(name)) for name in ("criu", "options"))
        return cls(criu=criu, options=options, mounts=mounts, **values)


def run(control: socket.socket, entrances: tuple[str, ...]) -> NoReturn:
    """Never returns."""
    step = "control groups"
    try:
        execute(tuple(EnterGroup(path) for path in entrances))
        step = "unshare"
        os.unshare(NAMESPACES)
        execute((DetachMountTree(), LeaveSessionKeyring()))
        step = "restore"
        work = Work.from_bytes(receive(control)[0])
        fds = receive(control)[1]
        _restore(control, work, _stage(work, fds, STAGE), STAGE)
        control.send(b"exec")
    except Exception as error:  # noqa: BLE001 - the border of a process: whatever it was is told to the agent
        control.send(json.dumps({"failed": str(error), "step": step}).encode())
    finally:
        os._exit(0)


def _stage(work: Work, fds: tuple[int, ...], stage: str) -> list[str]:
    """What CRIU is told of the mounts that do not come from the image."""
    root = f"{stage}/root"
    execute(
        (MountTmpfs(stage, STAGE_BYTES, STAGE_INODES), MakeDirectory(root), MountTmpfs(root, ROOT_BYTES, ROOT_INODES))
    )
    _fill(work, fds, root)
    externals = []
    for number, (fd, (key, _)) in enumerate(zip(fds, work.mounts, strict=True)):
        path = f"{stage}/{number}"
        _make(path, fd)
        kernel.move_mount(fd, path)
        os.close(fd)
        externals.append(f"mnt[{key}]:{path}")
    return externals


def _restore(control: socket.socket, work: Work, externals: list[str], stage: str) -> None:
    try:
        _run(control, work, externals, stage)
    except ChildProcessError as error:
        with open(f"{stage}/{LOG}", errors="replace") as log:
            said = essence(log.read(LOG_BYTES_MAX))
        raise ChildProcessError(f"{error}: {said or 'its log names no error'}") from error


def _run(control: socket.socket, work: Work, externals: list[str], stage: str) -> None:
    script = f"{stage}/script"
    execute((WriteFile(script, SCRIPT),))
    os.chmod(script, 0o700)  # noqa: PTH101
    told, go = (_fifo(f"{script}.{name}") for name in ("told", "go"))
    criu = _start_criu(work, stage, script, externals)
    pidfd = os.pidfd_open(_await(told, criu))
    os.setns(pidfd, os.CLONE_NEWNET)
    execute(network_plan())
    socket.send_fds(control, [b"ready"], [pidfd])
    if receive(control)[0] != b"go":
        raise ConnectionAbortedError("nobody wired it")
    os.write(go, b"go\n")
    _await(told, criu)
    os.setns(pidfd, os.CLONE_NEWUTS)
    execute((SetHostname(work.hostname),))
    os.write(go, b"go\n")
    _refuse(os.waitpid(criu, 0)[1])


def _start_criu(work: Work, stage: str, script: str, externals: list[str]) -> int:
    words = (
        *work.criu, "restore", "--images-dir", work.image, "--work-dir", stage, "--log-file", LOG, "--root", f"{stage}/root",
        "--restore-detached", "--action-script", script, *work.options,
        *(word for each in externals for word in ("--external", each)),
    )  # fmt: skip
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    quiet = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
    try:
        return os.posix_spawn(words[0], words, {"PATH": DEFAULT_PATH}, file_actions=quiet)
    finally:
        os.close(null)


def _fifo(path: str) -> int:
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _await(told: int, criu: int) -> int:
    """The number of PID 1, as CRIU's script says it. Raises ChildProcessError when CRIU ends instead."""
    watch = os.pidfd_open(criu)
    try:
        poll = select.poll()
        for fd in (told, watch):
            poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll()]
    finally:
        os.close(watch)
    if told not in ready:
        _refuse(os.waitpid(criu, 0)[1])
        raise ChildProcessError("criu restore ended too early")
    return int(os.read(told, 20))


def _refuse(status: int) -> None:
    if code := os.waitstatus_to_exitcode(status):
        raise ChildProcessError(f"criu restore ended with {code}")


def _fill(work: Work, fds: tuple[int, ...], root: str) -> None:
    """By a child that this root is all it can reach: its files are a tenant's."""
    archive = os.open(f"{work.image}/{FILES}", os.O_RDONLY | os.O_CLOEXEC)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chroot(root)
            os.chdir("/")
            with open(archive, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
                tar.extractall(numeric_owner=True, filter="fully_trusted")
            for fd, (_, target) in zip(fds, work.mounts, strict=True):
                _make(target, fd)
            execute(tuple(WriteFile(f"{GENERATED}/{name}", text) for name, text in work.files.items()))
        except Exception as error:  # noqa: BLE001 - the border of a process
            os.write(writing, f"{type(error).__name__}: {error}".encode()[:2000])
        finally:
            os._exit(0)
    os.close(writing)
    os.close(archive)
    with open(reading, "rb") as pipe:
        failure = pipe.read().decode(errors="replace")
    os.waitpid(child, 0)
    if failure:
        raise OSError(f"its files: {failure}")


def _make(path: str, fd: int) -> None:
    """What a mount can be attached to, if it is not there."""
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.makedirs(path, exist_ok=True)  # noqa: PTH103
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
