"""The runner's side of the process in which a definition's own functions run."""

import asyncio
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields

from containerlib.hooks import Moment, Side, Task
from containerlib.operations import Operation
from containerlib.standalone.adopting import Adoption
from containerlib.standalone.worker import MESSAGE_BYTES_MAX, READ_ANEW, execute_worker, fork_worker

OPERATIONS_TIMEOUT_S = 10.0
DIED = "the process that runs hooks has died"


@dataclass(frozen=True, slots=True)
class Inside:
    """A container to enter: its PID 1 by a descriptor, the entrances of its control groups (cgroups.Group)."""

    pidfd: int
    groups: Sequence[str]


def vars_of(operation: Operation) -> Iterator[object]:
    return (getattr(operation, each.name) for each in fields(operation))  # type: ignore[arg-type]  # all are dataclasses


class Hands:
    """Of a process that is forked, with these tasks: before the event loop and before any thread. Of one that is executed, without
    tasks and whenever it is wanted: `Hands.executed()`."""

    def __init__(self, tasks: tuple[Task, ...], worker: tuple[socket.socket, int] | None = None) -> None:
        # By what they are of; a number means another task after a reload, so they have a version.
        self._tasks = {"": (0, tasks)}
        self._control, self._pid = worker or fork_worker(tasks)
        self._control.setblocking(False)
        self.died = asyncio.Event()
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._next = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def executed(cls) -> "Hands":
        """Raises OSError."""
        return cls((), execute_worker())

    def listen(self) -> None:
        """In the loop that asks. From then on `died` says so."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._control, self._read)

    def _read(self) -> None:
        try:
            message = self._control.recv(MESSAGE_BYTES_MAX)
        except BlockingIOError:
            return
        except ConnectionError:
            message = b""
        if not message:
            asyncio.get_running_loop().remove_reader(self._control)
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_result(DIED)
            self._answers.clear()
            self.died.set()
            return
        reply = json.loads(message)
        if (waiting := self._answers.pop(reply["id"], None)) and not waiting.done():
            waiting.set_result(reply["failure"])

    async def run(self, task: Task, moment: Moment, inside: Inside | None) -> str:
        """Why it failed, empty if it did not. `inside` for those of the container's side."""
        found = next(
            (
                {"task": number, "of": of, "version": version}
                for of, (version, tasks) in self._tasks.items()
                for number, each in enumerate(tasks)
                if each is task
            ),
            None,
        )
        if found is None:
            return READ_ANEW
        values = {**asdict(moment), "metadata": dict(moment.metadata)}
        request = {**found, "moment": values, "timeout_s": task.timeout_s}
        if task.side is Side.HOST:
            return await self._ask(request, None)
        if inside is None:
            return "there is no container to run it in"
        return await self._ask(request, inside)

    async def operate(self, operations: Sequence[Operation], inside: Inside, root: Adoption | None = None) -> str:
        """Kernel operations in the container's namespaces, `root` before them."""
        made = [(type(each).__name__, [*vars_of(each)]) for each in operations]
        adopted = {"root": [*asdict(root).values()]} if root else {}
        return await self._ask(
            {"operations": made, **adopted, "timeout_s": OPERATIONS_TIMEOUT_S}, Inside(inside.pidfd, ())
        )

    async def load(self, texts: Mapping[str, bytes], name: str, tasks: tuple[Task, ...], of: str = "") -> str:
        """From now on the tasks of this definition, which the caller has read and found good, instead of those that `of` had."""
        version = self._tasks.get(of, (0, ()))[0] + 1
        file = os.memfd_create("definitions")
        try:
            os.write(file, json.dumps({path: text.decode("latin-1") for path, text in texts.items()}).encode())
            failure = await self._send({"load": True, "name": name, "of": of, "version": version}, [file])
        finally:
            os.close(file)
        if not failure:
            self._tasks[of] = (version, tasks)
        return failure

    async def _ask(self, request: dict[str, object], inside: Inside | None) -> str:
        if inside is None:
            return await self._send(request, [])
        groups = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in inside.groups]
        try:
            return await self._send({**request, "groups": True}, [inside.pidfd, *groups])
        finally:
            for fd in groups:
                os.close(fd)

    async def _send(self, request: dict[str, object], fds: list[int]) -> str:
        self.listen()
        self._next += 1
        id = self._next
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers[id] = answer
        try:
            socket.send_fds(self._control, [json.dumps({"id": id, **request}).encode()], fds)
        except ConnectionError:
            return DIED
        try:
            return await answer
        except asyncio.CancelledError:
            with suppress(ConnectionError):
                self._control.send(json.dumps({"kill": id}).encode())
            raise

    def close(self) -> None:
        """With what still runs there."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._control)
        self._control.close()
        os.waitpid(self._pid, 0)
