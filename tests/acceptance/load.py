"""Load on a site: keep-alive connections that send at fixed times, whether answers are slow or not, and note all that happens.

async with Load(port, "blog.localhost", connections=4, rate=40) as load:
    ...
load.failed            what was not answered with 200, each with its time
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.fakes.clients import Connection

ANSWER_S = 30.0


@dataclass(frozen=True)
class Sample:
    at: float  # monotonic, when it was to be sent
    s: float  # from then to its answer
    status: int = 0
    body: bytes = b""
    error: str = ""  # of the connection: no answer came

    @property
    def ok(self) -> bool:
        return self.status == 200


@dataclass
class Load:
    port: int
    host: str
    path: str = "/"
    connections: int = 4
    rate: float = 40.0  # requests a second, of all connections together
    method: str = "GET"  # POST: what may not be repeated, so that nothing is put right behind our back
    samples: list[Sample] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _stop: bool = False

    async def __aenter__(self) -> "Load":
        self.began = time.monotonic()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._send(self.began + number / self.rate), name=f"load {number}")
            for number in range(self.connections)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)
        for sample in self.failed:
            print(
                f"{self.host} +{sample.at - self.began:.3f} s: {sample.status or sample.error} after {sample.s:.3f} s"
            )

    async def _send(self, due: float) -> None:
        connection: Connection | None = None
        while not self._stop:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            try:
                connection = connection or await Connection.open(self.port)
                body = "Content-Length: 0\r\n" if self.method == "POST" else ""
                connection.send(f"{self.method} {self.path} HTTP/1.1\r\nHost: {self.host}\r\n{body}\r\n".encode())
                answer = await connection.response(within_s=ANSWER_S)
                self.samples.append(Sample(due, time.monotonic() - due, answer.status, answer.body))
                if "close" in answer.headers.get("connection", ""):
                    connection.close()
                    connection = None
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.samples.append(Sample(due, time.monotonic() - due, error=str(error) or type(error).__name__))
                if connection:
                    connection.close()
                    connection = None
            due += self.connections / self.rate
        if connection:
            connection.close()

    @property
    def failed(self) -> list[Sample]:
        return [sample for sample in self.samples if not sample.ok]

    @property
    def bodies(self) -> list[bytes]:
        return [sample.body for sample in self.samples if sample.ok]

    def answered_since(self, moment: float) -> int:
        return sum(sample.ok and sample.at >= moment for sample in self.samples)

    def slow(self, beyond_s: float = 0.5) -> str:
        return "".join(
            f"\n  +{each.at - self.began:.3f} s: {each.s:.3f} s" for each in self.samples if each.s > beyond_s
        )

    def report(self) -> str:
        times = sorted(sample.s for sample in self.samples)
        return (
            f"{self.host}: {len(times)} requests, {len(self.failed)} failed, p50 {percentile(times, 50) * 1000:.0f} ms, "
            f"p99 {percentile(times, 99) * 1000:.0f} ms, max {times[-1] * 1000:.0f} ms"
            + self.slow()
            + "".join(f"\n  +{f.at - self.began:.3f} s: {f.status or f.error} {f.body[:80]!r}" for f in self.failed)
        )


def percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]
