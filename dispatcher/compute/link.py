"""The client side of the agent's socket.

    link = AgentLink(settings.agent_socket, "userproxy", in_flight=counts.get)
    link.start()
    answer = await link.ensure("blog", "1", wait_s=30)      # or raises Problem
    link.live["blog"]["1"].address
    await link.close()

A proxy attaches: the agent pushes its live containers, and `live` is the view of them. The view outlives the connection: while
the agent is away its containers are served as they were last told, and who wants one started waits, within its own time, until it
is back.

The command line says one thing and leaves: `await say(path, Stop(id=1, app="blog"))`.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator

import msgspec

from dispatcher.compute import protocol
from dispatcher.compute.protocol import Answer, Attach, Done, Door, Ensure, Gone, Live, Refused, Synced, Traffic
from dispatcher.domain import Cause, Status
from dispatcher.problems import Code, Problem
from dispatcher.tasks import Tasks

_log = logging.getLogger(__name__)

# An agent that is new may soon have another site at a dead container's address: proxies have to hear of it before that.
BACK_OFF_FIRST_S, BACK_OFF_LAST_S = 0.05, 0.2
ANSWER_GRACE_S = 1.0  # beyond the wait that the agent was asked for: it says itself that the time is over
DETAIL_CHARACTERS_MAX = 200
VISIT_WAIT_S = 10.0
RESTART_S, RETRY_S = 5.0, 0.05  # a killed agent is restarted within a second or two


def _nothing(message: Live | Gone) -> None:
    pass


class AgentLink:
    """`in_flight` says how many requests a life has now; `changed` is called when the view has taken in a Live or Gone."""

    def __init__(
        self,
        path: str,
        name: str,
        *,
        in_flight: Callable[[str], int],
        lives_in_use: Callable[[], dict[str, int]],
        changed: Callable[[Live | Gone], None] = _nothing,
    ) -> None:
        self.live: dict[str, dict[str, Live]] = {}
        self.compute = ""  # the agent's own name for its host, once synced
        self.synced = asyncio.Event()  # it has told all it has at least once
        self.connects = 0
        self._path = path
        self._name = name
        self._in_flight = in_flight
        self._lives_in_use = lives_in_use
        self._changed = changed
        self._tasks = Tasks()
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, tuple[Ensure, asyncio.Future[Answer]]] = {}
        self._last_id = 0
        self._told: set[str] = set()  # lives told since attaching: what is not among them by Synced is gone

    @property
    def attached(self) -> bool:
        return self._writer is not None

    def start(self) -> None:
        self._tasks.start(self._stay_attached(), name="agent link")

    async def close(self) -> None:
        await self._tasks.close()

    async def ensure(
        self, app: str, container: str, *, wait_s: float, cause: Cause = Cause.REQUEST, detail: str = ""
    ) -> Answer:
        """The container that runs; raises Problem. An agent that is away gets the question when it is back."""
        self._last_id += 1
        # A path may hold bytes that are no UTF-8, which would not encode: neither now nor each time that we attach again.
        detail = detail[:DETAIL_CHARACTERS_MAX].encode("utf-8", "backslashreplace").decode()
        question = Ensure(self._last_id, app, container, wait_s, cause, detail)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[question.id] = question, future
        try:
            self._write(question)
            async with asyncio.timeout(wait_s + ANSWER_GRACE_S):
                return await future
        except TimeoutError:
            if self.attached:
                raise Problem(Code.START_TIMEOUT, f"{app} did not start within {wait_s:g} s") from None
            raise Problem(Code.NO_COMPUTE, "the agent of this host does not answer", retry_after_s=2) from None
        finally:
            del self._waiting[question.id]

    def traffic(self, in_flight: dict[str, int]) -> None:
        """While detached nothing is said: attaching tells all counts."""
        self._write(Traffic(in_flight))

    def _write(self, message: protocol.ToAgent) -> None:
        if self._writer is not None:
            self._writer.write(protocol.encode(message))

    async def _stay_attached(self) -> None:
        pause_s = BACK_OFF_FIRST_S
        while True:
            try:
                await self._attach()
                pause_s = BACK_OFF_FIRST_S
            except (OSError, ValueError, msgspec.DecodeError) as error:
                level = logging.WARNING if pause_s == BACK_OFF_FIRST_S else logging.DEBUG
                _log.log(level, "agent at %s: %s", self._path, error or "connection lost")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, BACK_OFF_LAST_S)

    async def _attach(self) -> None:
        """Runs until the connection ends; a line that is too long is a ValueError."""
        reader, writer = await asyncio.open_unix_connection(self._path, limit=protocol.LINE_BYTES_MAX)
        self._writer = writer
        self._told = set()
        try:
            self._write(Attach(self._name))
            if in_use := self._lives_in_use():
                self._write(Traffic(in_use))
            for question, _ in self._waiting.values():
                self._write(question)
            while line := await reader.readline():
                self._take(protocol.decode_from_agent(line))
        finally:
            self._writer = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _take(self, message: protocol.FromAgent) -> None:
        match message:
            case Live():
                self._take_live(message)
            case Gone():
                self._take_gone(message)
            case Synced():
                self.compute = message.compute
                for stale in [x for rows in self.live.values() for x in rows.values() if x.life not in self._told]:
                    self._take_gone(Gone(stale.app, stale.container, stale.generation))
                self.connects += 1
                self.synced.set()
            case Answer():
                self._take_live(message.live)
                if (entry := self._waiting.get(message.id)) and not entry[1].done():
                    entry[1].set_result(message)
            case Refused():
                if (entry := self._waiting.get(message.id)) and not entry[1].done():
                    entry[1].set_exception(as_problem(message))
            case Door() | Done():
                raise ValueError(f"the agent sent {type(message).__name__}, which a proxy does not ask for")

    def _take_live(self, message: Live) -> None:
        self._told.add(message.life)
        rows = self.live.setdefault(message.app, {})
        known = rows.get(message.container)
        if known is not None and known.generation > message.generation:
            return
        rows[message.container] = message
        if message.status in (Status.DRAINING, Status.FROZEN):
            # The lines before this one are older, so from here on the agent knows all there is to know.
            self._write(Traffic({message.life: self._in_flight(message.life)}, message.turn))
        self._changed(message)

    def _take_gone(self, message: Gone) -> None:
        rows = self.live.get(message.app, {})
        known = rows.get(message.container)
        if known is not None and known.generation <= message.generation:
            del rows[message.container]
            if not rows:
                del self.live[message.app]
        self._told.discard(f"{message.app}/{message.container}.{message.generation}")
        self._changed(message)


def as_problem(refused: Refused) -> Problem:
    return Problem(refused.code, refused.message, hint=refused.hint, retry_after_s=refused.retry_after_s)


@contextlib.contextmanager
def visit(path: str, message: protocol.Enter) -> Iterator[Door]:
    """Until the block ends the container counts as in use: idleness does not stop it under the visitor."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.settimeout(VISIT_WAIT_S)
            _connect(connection, path)
            connection.sendall(protocol.encode(message))
            with connection.makefile("rb") as lines:
                answer = protocol.decode_from_agent(lines.readline(protocol.LINE_BYTES_MAX))
        except (OSError, msgspec.DecodeError) as error:
            raise _no_agent(path, error) from error
        if isinstance(answer, Refused):
            raise as_problem(answer)
        assert isinstance(answer, Door)
        yield answer


def _connect(connection: socket.socket, path: str) -> None:
    """A socket that is there and refuses is a killed agent's: the next one is on its way."""
    deadline = time.monotonic() + RESTART_S
    while True:
        try:
            connection.connect(path)
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)


def _no_agent(path: str, error: Exception) -> Problem:
    hint = "is `fastcontainer agent` running?"
    return Problem(Code.NO_COMPUTE, f"the agent at {path} does not answer ({error})", hint=hint)


async def _opened(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    deadline = time.monotonic() + RESTART_S
    while True:
        try:
            return await asyncio.open_unix_connection(path, limit=protocol.LINE_BYTES_MAX)
        except ConnectionRefusedError:  # as in _connect
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(RETRY_S)


async def say[M: (protocol.Start, protocol.Stop, protocol.Ensure)](
    path: str, message: M, *, wait_s: float = 60.0
) -> Done | Answer:
    """One question on a connection of its own; raises Problem. The command line's way."""
    try:
        async with asyncio.timeout(wait_s):
            reader, writer = await _opened(path)
            try:
                writer.write(protocol.encode(message))
                while line := await reader.readline():
                    answer = protocol.decode_from_agent(line)
                    if isinstance(answer, Refused) and answer.id == message.id:
                        raise as_problem(answer)
                    if isinstance(answer, Done | Answer) and answer.id == message.id:
                        return answer
            finally:
                writer.close()
    except (TimeoutError, OSError) as error:
        raise _no_agent(path, error) from error
    except msgspec.DecodeError as error:
        raise Problem(
            Code.INTERNAL, f"the agent at {path} said what this version does not understand: {error}"
        ) from error
    raise Problem(Code.NO_COMPUTE, f"the agent at {path} closed the connection", hint="its log says why")
