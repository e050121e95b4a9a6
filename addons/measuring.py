"""What the proxies count: requests in flight (told to the agent), metrics for Prometheus."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

TRAFFIC_EVERY_S = 1.0  # between two reports of a count that stays above zero
APPS_MAX = 500  # that metrics are kept of: those with the latest requests
WAKE_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
RESPONSE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
METRICS_S_MAX = 5.0
PHASES_MAX = 20  # names of phases come from the agent; more than these would be a fault of it


class InFlight:
    """Requests in flight by Backend.key. Those of lives here are reported: at once when a count leaves zero or returns to it."""

    def __init__(self, report: Callable[[dict[str, int]], None]) -> None:
        self.counts: dict[str, int] = {}
        self._report = report
        self._changed: set[str] = set()
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._at_once = False

    def of(self, life: str) -> int:
        return self.counts.get(life, 0)

    def lives(self) -> dict[str, int]:
        return {key: count for key, count in self.counts.items() if _is_life(key)}

    def up(self, key: str) -> None:
        count = self.counts[key] = self.counts.get(key, 0) + 1
        self._note(key, crossed=count == 1)

    def down(self, key: str) -> None:
        count = self.counts[key] - 1
        if count:
            self.counts[key] = count
        else:
            del self.counts[key]
        self._note(key, crossed=not count)

    def _note(self, key: str, *, crossed: bool) -> None:
        if not _is_life(key):
            return
        self._changed.add(key)
        if crossed and not self._at_once:
            if self._timer is not None:
                self._timer.cancel()
            self._at_once = True
            self._timer = asyncio.get_running_loop().call_soon(self._flush)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TRAFFIC_EVERY_S, self._flush)

    def _flush(self) -> None:
        self._timer, self._at_once = None, False
        report = {life: self.counts.get(life, 0) for life in self._changed}
        self._changed.clear()
        self._report(report)


def _is_life(key: str) -> bool:
    return "@" not in key


@dataclass(slots=True)
class _OfApp:
    outcomes: dict[str, int] = field(default_factory=dict)
    responses: int = 0
    seconds: float = 0.0


class Metrics(Collector):
    """Series of an app exist while it is among the APPS_MAX that had a request latest."""

    def __init__(
        self, role: str, gauges: Callable[[], Mapping[str, float]], in_flight: Mapping[str, int] | None = None
    ) -> None:
        self.registry = CollectorRegistry()
        self._prefix = f"fastcontainer_{role}"
        self._gauges = gauges
        self._in_flight = {} if in_flight is None else in_flight
        self._apps: OrderedDict[str, _OfApp] = OrderedDict()
        self._phases: set[str] = set()
        self._wake = Histogram(
            f"{self._prefix}_wake_seconds", "Phases of starts that requests waited for; `held` is the whole wait",
            ["phase"], buckets=WAKE_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._response = Histogram(
            f"{self._prefix}_response_seconds", "From dialling a container to its response headers",
            buckets=RESPONSE_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.registry.register(self)

    def request(self, app: str, outcome: str) -> None:
        outcomes = self._of(app).outcomes
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    def response(self, app: str, seconds: float) -> None:
        self._response.observe(seconds)
        of_app = self._of(app)
        of_app.responses += 1
        of_app.seconds += seconds

    def _of(self, app: str) -> _OfApp:
        of_app = self._apps.get(app)
        if of_app is None:
            of_app = self._apps[app] = _OfApp()
            if len(self._apps) > APPS_MAX:
                self._apps.popitem(last=False)
        else:
            self._apps.move_to_end(app)
        return of_app

    def wake(self, held_s: float, phases: Mapping[str, float]) -> None:
        self._wake.labels("held").observe(held_s)
        for phase, milliseconds in phases.items():
            if phase in self._phases or len(self._phases) < PHASES_MAX:
                self._phases.add(phase)
                self._wake.labels(phase).observe(milliseconds / 1000)

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            f"{self._prefix}_requests", "Requests by app and outcome", labels=["app", "outcome"]
        )
        seconds = CounterMetricFamily(f"{self._prefix}_app_response_seconds", "Sum of response times", labels=["app"])
        responses = CounterMetricFamily(
            f"{self._prefix}_app_responses", "Responses that were passed on", labels=["app"]
        )
        in_flight = GaugeMetricFamily(f"{self._prefix}_in_flight", "Requests in flight by life", labels=["life"])
        for app, of_app in self._apps.items():
            for outcome, count in of_app.outcomes.items():
                requests.add_metric([app, outcome], count)
            if of_app.responses:
                seconds.add_metric([app], of_app.seconds)
                responses.add_metric([app], of_app.responses)
        for life, count in self._in_flight.items():
            in_flight.add_metric([life], count)
        yield from (requests, seconds, responses, in_flight)
        for name, value in self._gauges().items():
            yield GaugeMetricFamily(f"{self._prefix}_{name}", name.replace("_", " "), value=value)

    def describe(self) -> Iterable[Metric]:
        return ()


class MetricsServer:
    """GET anything: the metrics. In the loop of the proxy, so that what is counted needs no locks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        self._server = await asyncio.start_server(self._answer, host, port)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(METRICS_S_MAX):
                await reader.readuntil(b"\r\n\r\n")
                body = generate_latest(self._registry)
                head = f"HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE_LATEST}\r\nContent-Length: {len(body)}\r\n"
                writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
                await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
