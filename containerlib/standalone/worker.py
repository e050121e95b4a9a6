"""The process in which a definition's own functions run: one child for each, killed at its time limit.

    python -I containerlib/standalone/worker.py <&SOCKET      # for whom has threads

Forked from the runner before that has threads, or executed, and single-threaded itself, so that it may fork. On a SOCK_SEQPACKET
socket:
    -> {"id", "task", "of", "version", "moment", "timeout_s"}   on the host's side; `of`: whose task, "" for those from birth
    -> the same with "groups" + descriptors: PID 1's pidfd, entrances of its groups     in the container's namespaces
    -> {"id", "operations": [[NAME, ARGUMENTS]...]} + the same  kernel operations in the container's mount namespace
       with "root": ARGUMENTS of an Adoption                     first the root of an image, which they then are done in
    -> {"id", "name", "of", "version", "load": true} + descriptor: texts of definition files, to take tasks from henceforth
    -> {"kill": ID}                                             nobody waits for it any more
    <- {"id", "failure"}                                        empty: it went well; the first of two counts
"""

import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # -I removed it

from containerlib import kernel, operations
from containerlib.dsl.definitions import from_texts
from containerlib.hooks import Moment, Task
from containerlib.spec import ContainerSpec
from containerlib.standalone.adopting import Adoption
from containerlib.userns import UserNamespace, make_user_namespace

# Done on the host, it returns what is to be done inside.
Prepare = Callable[[], Callable[[], object]]
MESSAGE_BYTES_MAX = 100_000
FAILURE_BYTES_MAX = 8_000
DESCRIPTORS_MAX = 20
QUIET_S = 0.05  # after a root was put in place: a program boots, and should not have to share its CPU
READ_ANEW = "its definition was read anew meanwhile"
# The user namespace comes last and only where the program has entered it: before that, hooks may still mount.
NAMESPACES = (
    os.CLONE_NEWNS | os.CLONE_NEWPID | os.CLONE_NEWNET | os.CLONE_NEWIPC | os.CLONE_NEWUTS | os.CLONE_NEWCGROUP
)  # fmt: skip
INSIDE = {"MountTmpfs": operations.MountTmpfs, "Mask": operations.Mask, "BindReadonly": operations.BindReadonly,
          "MakeDirectory": operations.MakeDirectory}  # fmt: skip


def tasks_of(spec: ContainerSpec) -> tuple[Task, ...]:
    """In the order by whose numbers they are asked for."""
    return (*spec.hooks, *spec.timers, *spec.cgroup_hooks, *spec.signal_handlers)


@dataclass(slots=True)
class Child:
    id: int
    pid: int
    pidfd: int
    words: int
    deadline: float
    late: bool = False


@dataclass(slots=True)
class Spare:
    """A child that has a user namespace already and waits for the next root: forking it and the namespace take twice as long as
    all the rest."""

    pid: int
    work: socket.socket
    words: int


class Worker:
    def __init__(self, control: socket.socket, tasks: tuple[Task, ...]) -> None:
        self.control = control
        self.tasks = {"": (0, tasks)}  # by what they are of: their version, and they
        self.children: dict[int, Child] = {}
        self.prepare_at: float | None = None  # None: there will be no other root, or the child for it is there
        self.spare: Spare | None = None
        self.selector = selectors.EpollSelector()
        self.selector.register(control, selectors.EVENT_READ, self.serve)

    def run(self) -> NoReturn:
        """Ends with its runner, and with it whatever still runs here."""
        while True:
            for key, _ in self.selector.select(self._patience_s()):
                key.data()
            for child in self.children.values():
                if not child.late and time.monotonic() >= child.deadline:
                    child.late = True
                    self._kill(child)
            if self.prepare_at is not None and time.monotonic() >= self.prepare_at:
                self.prepare()

    def _patience_s(self) -> float | None:
        waiting = [child.deadline for child in self.children.values() if not child.late]
        waiting += [] if self.prepare_at is None else [self.prepare_at]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def serve(self) -> None:
        message, fds, _, _ = socket.recv_fds(self.control, MESSAGE_BYTES_MAX, DESCRIPTORS_MAX)
        if not message:
            for child in self.children.values():
                self._kill(child)
            os._exit(0)
        request = json.loads(message)
        if "kill" in request:
            unwanted = self.children.get(request["kill"])
            if unwanted is not None:
                unwanted.late = True
                self._kill(unwanted)
            return
        try:
            if "load" in request:
                self._load(request, fds)
                self._answer(request["id"], "")
            else:
                self._fork(request, fds)
        except Exception as error:  # noqa: BLE001 - the border of a process: its runner is told
            self._answer(request["id"], f"{type(error).__name__}: {error}")
        finally:
            for fd in fds:
                os.close(fd)

    def _load(self, request: dict[str, Any], fds: list[int]) -> None:
        texts = json.loads(os.pread(fds[0], os.fstat(fds[0]).st_size, 0))
        definitions = from_texts({path: text.encode("latin-1") for path, text in texts.items()})
        self.tasks[request["of"]] = (request["version"], tasks_of(definitions.spec(request["name"])))

    def _fork(self, request: dict[str, Any], fds: list[int]) -> None:
        if "root" in request and self.spare and self._hand_over(self.spare, request, fds):
            return
        work = self._work(request)
        enter = _enter_files if "operations" in request else _enter
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            self.selector.close()
            self.control.close()
            os.close(read)
            _child(work, write, enter, fds if "groups" in request else [])
        os.close(write)
        self._follow(request, pid, read)

    def _follow(self, request: dict[str, Any], pid: int, words: int) -> None:
        child = Child(request["id"], pid, os.pidfd_open(pid), words, time.monotonic() + request["timeout_s"])
        self.children[child.id] = child
        self.selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._ended(child))

    def _work(self, request: dict[str, Any]) -> Prepare:
        if "operations" in request:
            return _operate(request)
        version, tasks = self.tasks[request["of"]]
        if request["version"] != version:
            raise LookupError(READ_ANEW)
        function, values = tasks[request["task"]].function, request["moment"]
        moment = Moment(**{**values, "cgroups": tuple(values["cgroups"])})
        return lambda: lambda: function(moment)

    # ---- the child that waits for the next root

    def _hand_over(self, spare: Spare, request: dict[str, Any], fds: list[int]) -> bool:
        """False: it was killed while it waited."""
        self.spare, self.prepare_at = None, time.monotonic() + QUIET_S
        with spare.work:
            try:
                socket.send_fds(spare.work, [json.dumps(request).encode()], fds)
            except ConnectionError:
                os.waitpid(spare.pid, 0)
                os.close(spare.words)
                return False
        self._follow(request, spare.pid, spare.words)
        return True

    def prepare(self) -> None:
        """Once nobody waits."""
        self.prepare_at = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            self.selector.close()
            ours.close()
            os.close(read)
            _await_root(theirs, write, self.control)
        theirs.close()
        os.close(write)
        self.spare = Spare(pid, ours, read)

    def _kill(self, child: Child) -> None:
        """What it started goes with it, as far as it stayed in its group."""
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)  # it has not made its group yet

    def _ended(self, child: Child) -> None:
        _, status = os.waitpid(child.pid, 0)
        self.selector.unregister(child.pidfd)
        os.close(child.pidfd)
        os.set_blocking(child.words, False)  # what it started may still hold the other end
        try:
            words = os.read(child.words, FAILURE_BYTES_MAX).decode(errors="replace")
        except BlockingIOError:
            words = ""
        os.close(child.words)
        del self.children[child.id]
        if child.late:
            words = "it took longer than its time limit and was killed"
        elif status and not words:
            words = f"it ended with {os.waitstatus_to_exitcode(status)}"
        self._answer(child.id, words)

    def _answer(self, id: int, failure: str) -> None:
        self.control.send(json.dumps({"id": id, "failure": failure}).encode())


def _operate(request: dict[str, Any], namespace: UserNamespace | None = None) -> Prepare:
    made = [INSIDE[name](*arguments) for name, arguments in request["operations"]]
    root = Adoption(*request["root"]) if "root" in request else None

    def prepare() -> Callable[[], object]:
        enter = root.prepare(namespace) if root else lambda: None
        return lambda: [enter(), *(operation.execute() for operation in made)]

    return prepare


def _await_root(work: socket.socket, tell: int, control: socket.socket) -> NoReturn:
    """Says itself that it went well: before its end is noticed, whoever waits would wait for its memory to be taken apart."""
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        namespace = None
        with suppress(OSError):  # where the host has none, nobody asks for a root either
            namespace = make_user_namespace()
        message, fds, _, _ = socket.recv_fds(work, MESSAGE_BYTES_MAX, DESCRIPTORS_MAX)
        if not message:
            os._exit(0)
        request = json.loads(message)

        def told() -> None:
            control.send(json.dumps({"id": request["id"], "failure": ""}).encode())

        _child(_operate(request, namespace), tell, _enter_files, fds, told)
    finally:
        os._exit(1)


def _child(
    prepare: Prepare,
    tell: int,
    enter: Callable[[list[int]], None],
    entered: list[int],
    done: Callable[[], object] = lambda: None,
) -> NoReturn:
    code = 1
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setpgid(0, 0)
        work = prepare()
        if entered:
            enter(entered)
        work()
        done()
        code = 0
    except Exception as error:  # noqa: BLE001 - the border to somebody's own code: told, with its line
        os.write(tell, _told(error).encode()[:FAILURE_BYTES_MAX])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _told(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/containerlib/" not in frame.filename] or list(frames)
    return f"{type(error).__name__}: {error} ({own[-1].filename}:{own[-1].lineno})"


def _enter_files(entered: list[int]) -> None:
    """Its mount namespace and nothing else: that is enough for what is mounted, and takes no second child."""
    sys.meta_path.clear()
    os.setns(entered[0], os.CLONE_NEWNS)


def _enter(entered: list[int]) -> None:
    """Tenants' files are in reach from here on: nothing is imported any more, or one of theirs might be."""
    pidfd, *groups = entered
    sys.meta_path.clear()
    for group in groups:
        os.write(group, b"0")
    os.setns(pidfd, NAMESPACES)
    with suppress(OSError):  # it is our own still: the program has not started, or this host has none for us
        os.setns(pidfd, os.CLONE_NEWUSER)
    # A pid namespace is entered by the next child only.
    if (inner := os.fork()) != 0:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 0xFF)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    _be_root_there()


def _be_root_there() -> None:
    """In a user namespace of its own that is not the host's root."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.chdir("/")


def _ignore_terminal() -> None:
    """Its signals come to all; who started this says what is to be done."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def execute_worker() -> tuple[socket.socket, int]:
    """Our end of its socket, and its pid. What it prints goes where we tell our errors. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-I", __file__]
        actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0), (os.POSIX_SPAWN_DUP2, 2, 1)]
        try:
            pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=actions)
        except BaseException:
            ours.close()
            raise
    return ours, pid


def fork_worker(tasks: tuple[Task, ...]) -> tuple[socket.socket, int]:
    """Our end of its socket, and its pid. Only in a process that has no threads yet."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ours.close()
            _ignore_terminal()
            Worker(theirs, tasks).run()
        except BaseException:  # noqa: BLE001 - the border of a process
            traceback.print_exc()
        finally:
            os._exit(code)
    theirs.close()
    return ours, pid


def main() -> NoReturn:
    _ignore_terminal()
    os.setpgid(0, 0)
    control = socket.socket(fileno=os.dup(0))  # a number that hooks do not inherit
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    worker = Worker(control, ())
    worker.prepare()
    worker.run()


if __name__ == "__main__":
    main()
