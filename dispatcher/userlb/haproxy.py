"""HAProxy's runtime socket: what it has, and the commands that change it.

    runtime = Runtime(pool)
    actual = await runtime.read()
    await runtime.do(commands)              # or raises CommandFailed, which names the command

One connection for each batch: HAProxy closes it after the answer. Answers come one after the other, each ended by an empty line.
"""

import asyncio
import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dispatcher.userlb import config
from dispatcher.userlb.config import Pool
from dispatcher.userlb.lanes import (
    Actual,
    Allow,
    Close,
    Command,
    Open,
    Rescue,
    Route,
    Slot,
    SlotId,
    Stick,
    Unroute,
    Weigh,
)

LINE_BYTES_MAX = 8 << 10  # HAProxy reads a line into one buffer of 16 KiB
ANSWER_S = 5.0
NEVER_USED = "127.0.0.1:1"
_SLOT = re.compile(rf"{config.SLOT}(\d+)")
# What `set server ... addr` says when it has done it; everything else that is said is a refusal.
_DONE = re.compile(r"IP changed from .*|no need to change .*|port changed from .*|.* by 'stats socket command'")


class CommandFailed(Exception):
    """HAProxy refused a command. Its maps or slots are not what we took them for: read them again."""


@dataclass(frozen=True)
class Info:
    pid: int
    description: str


class Runtime:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def info(self) -> Info:
        """Raises OSError when nobody answers."""
        (answer,) = await self._ask(["show info"])
        fields = dict(line.partition(": ")[::2] for line in answer)
        return Info(int(fields["Pid"]), fields.get("description", ""))

    async def say(self, word: str, payload: str = "") -> list[str]:
        """The lines of the answer to one command. `payload`: text without empty lines that belongs to it. Raises OSError."""
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(self._pool.socket)
            try:
                writer.write(f"{word} <<\n{payload.strip()}\n\n".encode() if payload else f"{word}\n".encode())
                text = (await reader.read()).decode()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        return [line for line in text.split("\n") if line]

    async def read(self) -> Actual:
        """All that there is: some hundred kilobytes."""
        maps = [f"show map {path}" for path in self._pool.maps]
        hosts, wildcards, policies, tokens, table = await self._ask([*maps, "show stat -1 6 -1"])
        routes = dict(_entries(hosts)) | {f"*.{name}": lane for name, lane in _entries(wildcards)}
        slots, in_lane = _counts([table])
        return Actual(routes, dict(_entries(policies)), dict(_entries(tokens)), slots, in_lane)

    async def read_lanes(self, lanes: Iterable[str]) -> Actual:
        """Their slots and what is in them; neither names nor policies."""
        slots, in_lane = _counts(await self._ask([f"show stat {lane} 6 -1" for lane in lanes]))
        return Actual(slots=slots, in_lane=in_lane)

    async def do(self, commands: Sequence[Command]) -> None:
        words = [word for command in commands for word in self.words(command)]
        for word, answer in zip(words, await self._ask(words), strict=True):
            if not all(_DONE.fullmatch(line) for line in answer):
                raise CommandFailed(f"{word}: {' '.join(answer)}")

    def words(self, command: Command) -> list[str]:
        match command:
            case Route(domain, lane, is_new):
                path, name = self._map_of(domain)
                return [f"{'add' if is_new else 'set'} map {path} {name} {lane}"]
            case Unroute(domain):
                path, name = self._map_of(domain)
                return [f"del map {path} {name}"]
            case Allow(lane, policy, is_new):
                return [f"{'add' if is_new else 'set'} map {self._pool.policies} {lane} {policy}"]
            case Close(slot):
                return [f"set server {slot.path} state maint"]
            case Rescue(lane):
                server = f"{lane}/{config.RESCUE}"
                return [f"set server {server} state ready", f"set server {server} state maint"]
            case Weigh(slot, weight):
                return [f"set server {slot.path} weight {weight}"]
            case Stick(path, token, is_new):
                word = f"{'add' if is_new else 'set'} map {self._pool.tokens} {path} {token}"
                return [f"del map {self._pool.tokens} {path}" if token is None else word]
            case Open(slot, address, concurrency, weight):
                host, _, port = address.rpartition(":")
                return [
                    f"set server {slot.path} addr {host.strip('[]')} port {port}",
                    f"set maxconn server {slot.path} {concurrency}",
                    f"set server {slot.path} weight {weight}",
                    f"set server {slot.path} state ready",
                ]

    def _map_of(self, domain: str) -> tuple[str, str]:
        if domain.startswith("*."):
            return self._pool.wildcards, domain.removeprefix("*.")
        return self._pool.hosts, domain

    async def _ask(self, words: Sequence[str]) -> list[list[str]]:
        """The lines that each command was answered with. Raises OSError, TimeoutError included."""
        answers: list[list[str]] = []
        for batch in _batches(words):
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self._pool.socket)
                try:
                    writer.write(";".join(batch).encode() + b"\n")
                    text = (await reader.read()).decode()
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
            answers += _answers(text)
        if len(answers) != len(words):
            raise ConnectionError(f"HAProxy answered {len(answers)} of {len(words)} commands")
        return answers


def _batches(words: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for word in words:
        size += len(word) + 1
        if batch and size > LINE_BYTES_MAX:
            yield batch
            batch, size = [], len(word) + 1
        batch.append(word)
    if batch:
        yield batch


def _answers(text: str) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in text.split("\n")[:-1]:
        if line:
            lines.append(line)
        else:
            yield lines
            lines = []


def _entries(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """`0x5581 name value`"""
    for line in lines:
        _, name, value = line.split(" ", 2)
        yield name, value


def _counts(tables: Iterable[Sequence[str]]) -> tuple[dict[SlotId, Slot], dict[str, int]]:
    """The slots that were ever used, and the requests in each lane: those that wait for no slot in particular included."""
    slots: dict[SlotId, Slot] = {}
    in_lane: dict[str, int] = {}
    for header, *lines in tables:
        column = {name: number for number, name in enumerate(header.removeprefix("# ").split(","))}
        lane, server, address = column["pxname"], column["svname"], column["addr"]
        for line in lines:  # none of the words that are looked at has quotes or commas, and nor have those before them
            row = line.split(",")
            if row[server] == "BACKEND":
                in_lane[row[lane]] = int(row[column["scur"]])
            elif row[address] != NEVER_USED and (match := _SLOT.fullmatch(row[server])):
                slots[SlotId(row[lane], int(match[1]) - 1)] = Slot(
                    address=row[address],
                    concurrency=int(row[column["slim"]] or 0),
                    is_open=not row[column["status"]].startswith(("MAINT", "DRAIN")),
                    in_flight=int(row[column["scur"]]) + int(row[column["qcur"]]),
                    total=int(row[column["stot"]]),
                    weight=int(row[column["uweight"]]),
                )
    return slots, in_lane
