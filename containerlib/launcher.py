"""The launcher: parent of all containers. Root, single-threaded, standard library only; it forks blanks, reaps and reports.

    python -SI containerlib/launcher.py /run/fastcontainer/launcher.sock STAGE

It knows nothing about sites: the agent asks for a blank, gets one end of its socket and a pidfd, and speaks to it directly.
So containers are forked from a small process without threads, and the agent may die, or be replaced, at any time.

Messages are JSON datagrams on a SOCK_SEQPACKET socket that root alone may open; one agent at a time, the newest wins.
    -> {"blank": SLOT, "groups": [FILE, ...], "etc": IMAGE, "mapped": BOOL[, "own_filter": BOOL]}, with "dumpable": UID_BASE or
       "restores": true for the kinds of checkpoint/
       + descriptors: stdout, stderr, the filter of system calls (see seccomp.py); the files are cgroups.Group.entrances
    <- {"code": CHECKSUM}   first: see code.py
    -> {"restart": true}    it begins anew with the code that its files have now; its children stay its children
    <- {"blank": SLOT, "pid": PID}    + descriptors: the blank's socket, its pidfd
    <- {"blank": SLOT, "failed": WHY}
    <- {"exited": PID, "status": WAIT_STATUS}   (kept for the next agent while there is none)
"""

import array
import gc
import json
import os
import selectors
import signal
import socket
import sys
from collections import deque
from typing import Any, NoReturn

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - -I removed it

from containerlib import blank, code, kernel, pausing, shared

DESCRIPTORS = 3  # with each request
FILTER_BYTES_MAX = 4096 * 8  # the kernel takes no more than 4,096 instructions
EXITS_KEPT = 10_000  # while no agent listens; older ones are forgotten, and their agent reads the death from the pidfd


class Launcher:
    def __init__(self, path: str, stage: str) -> None:
        self.stage = stage
        self.code = code.checksum()
        self.agent: socket.socket | None = None
        self.exits: deque[tuple[int, int]] = deque(maxlen=EXITS_KEPT)
        self.pause = pausing.memory_file()
        self.shared = shared.keep()
        self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)
        self.listener = _listen(path)
        self.wakeup = _wake_on_child()
        self.selector = selectors.EpollSelector()
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.selector.register(self.wakeup, selectors.EVENT_READ, self.reap)

    def run(self) -> None:
        self.collect()  # who ended while this process began anew
        while True:
            for key, _ in self.selector.select():
                key.data()

    def accept(self) -> None:
        connection, _ = self.listener.accept()
        _, uid, _ = array.array("i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != 0:
            connection.close()
            return
        self.drop_agent()
        self.agent = connection
        self.selector.register(connection, selectors.EVENT_READ, self.serve)
        self.answer({"code": self.code}, [])
        self.report()

    def drop_agent(self) -> None:
        if self.agent is not None:
            self.selector.unregister(self.agent)
            self.agent.close()
            self.agent = None

    def serve(self) -> None:
        assert self.agent is not None
        try:
            message, descriptors, _, _ = socket.recv_fds(self.agent, 65536, DESCRIPTORS)
        except ConnectionError:
            message, descriptors = b"", []
        if not message:
            self.drop_agent()
            return
        request = json.loads(message)
        if "restart" in request:
            os.execve(sys.executable, [sys.executable, "-SI", *sys.argv], {})
        ours = pidfd = -1
        try:
            pid, ours, pidfd = self.make_blank(request, descriptors)
            self.answer({"blank": request["blank"], "pid": pid}, [ours, pidfd])
        except (OSError, ValueError) as error:  # no descriptors or processes left, here or on the host: perhaps later
            self.answer({"blank": request["blank"], "failed": str(error)}, [])
        finally:
            for fd in (*descriptors, ours, pidfd):
                if fd >= 0:
                    os.close(fd)

    def make_blank(self, request: dict[str, Any], descriptors: list[int]) -> tuple[int, int, int]:
        """Its pid, its socket and its pidfd."""
        if len(descriptors) != DESCRIPTORS:  # the kernel drops what would be one too many
            raise ValueError(f"{len(descriptors)} of {DESCRIPTORS} descriptors came")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            # Children of this process are born into a new pid namespace until setns undoes it; unshare twice would nest them.
            # The other kinds make theirs themselves, inside of a user namespace.
            if "dumpable" not in request and "restores" not in request:
                os.unshare(os.CLONE_NEWPID)
            try:
                pid = os.fork()
                if pid == 0:
                    self.become_blank(theirs, descriptors, request)
            finally:
                os.setns(self.own_pid_namespace, os.CLONE_NEWPID)
            pidfd = os.pidfd_open(pid)  # where it fails the socket's end ends the blank
            return pid, ours.detach(), pidfd

    def answer(self, reply: dict[str, Any], descriptors: list[int]) -> None:
        """Nobody may listen any more: then nobody holds the blank's socket, and it exits by itself."""
        if self.agent is None:
            return
        try:
            socket.send_fds(self.agent, [json.dumps(reply).encode()], descriptors)
        except ConnectionError:
            self.drop_agent()

    def become_blank(self, control: socket.socket, descriptors: list[int], request: dict[str, Any]) -> NoReturn:
        try:
            blank.reset_signals()
            signal.set_wakeup_fd(-1)
            os.setsid()
            null = os.open("/dev/null", os.O_RDWR)
            out, err, filter_fd = descriptors
            filter = os.pread(filter_fd, FILTER_BYTES_MAX, 0)
            for fd, source in ((0, null), (1, out), (2, err)):
                os.dup2(source, fd)
            kept = () if self.shared is None else self.shared.descriptors
            _close_all_but(control.fileno(), *(() if self.pause is None else (self.pause,)), *kept)
            entrances = tuple(request["groups"])
            # Imported when asked for: most installations never are, and every blank would pay for it.
            if "dumpable" in request:
                from containerlib.checkpoint import dumpable

                dumpable.run(control, self.stage, request["etc"], filter, entrances, request["dumpable"])
            if "restores" in request:
                from containerlib.checkpoint import restorer

                restorer.run(control, entrances)
            flags = {"mapped": request["mapped"], "own_filter": request.get("own_filter", False)}
            blank.run(
                control, self.stage, request["etc"], filter, entrances, **flags, pause=self.pause, shared=self.shared
            )
        finally:
            os._exit(126)

    def reap(self) -> None:
        os.read(self.wakeup, 4096)
        self.collect()

    def collect(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self.exits.append((pid, status))
        self.report()

    def report(self) -> None:
        while self.agent is not None and self.exits:
            pid, status = self.exits[0]
            try:
                self.agent.send(json.dumps({"exited": pid, "status": status}).encode())
            except ConnectionError:
                self.drop_agent()
                return
            self.exits.popleft()


def _close_all_but(*kept: int) -> None:
    """Beyond standard input, output and error."""
    first = 3
    for fd in sorted(kept):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, 1 << 20)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.path.lexists(path):
        os.unlink(path)  # noqa: PTH108 - a predecessor's: two launchers never share a run directory
    os.umask(0o177)
    listener.bind(path)
    os.umask(0o022)
    listener.listen(4)
    return listener


def _wake_on_child() -> int:
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    return readable


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python -SI containerlib/launcher.py SOCKET STAGE")
    # Of a container that can be dumped, or was restored, PID 1 is the grandchild of a process that has ended.
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    launcher = Launcher(sys.argv[1], sys.argv[2])
    gc.collect()
    gc.freeze()  # a collection in a blank would touch, and so copy, every page it shares with this process
    launcher.run()


if __name__ == "__main__":
    main()
