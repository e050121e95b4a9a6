import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench import throughput
from bench.throughput import KEPT, Samples, load, texts
from bench.throughput.load import Target
from bench.throughput.rows import BACKEND, HAPROXY, LANE, LEAN, MITMDUMP, NGINX, SCRIPT, TWO_HOPS

PAGE = b"a page"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + PAGE


def test_ratios_are_of_the_medians() -> None:
    samples = Samples()
    for name, rates in ((LANE, [900.0, 800.0, 950.0]), (HAPROXY, [1000.0]), (MITMDUMP, [90.0])):
        samples.most[name, KEPT] += rates
    for name, us in ((LEAN, [300.0, 310.0, 900.0]), (SCRIPT, [400.0]), (MITMDUMP, [620.0])):
        samples.cpu_us[name] += us
    samples.latency_ms[LANE, KEPT, 100] += [1.0, 2.0, 3.0]
    report = throughput.report(samples)
    assert report.ratios == {
        "lane_over_haproxy": 0.9,
        "lane_over_mitmdump": 10,
        "lean_over_mitmdump_cpu": 0.5,
        "script_over_mitmdump_cpu": pytest.approx(400 / 620),
    }
    latency = next(result for result in report.results if result.unit == "ms")
    assert (latency.what, latency.p50, latency.p99, latency.n) == ("warm lane: kept connections, at 100/s", 2, 3, 3)


def test_what_wrk_prints() -> None:
    assert load.rate_of("  5000 requests in 2.50s, 1.2MB read\n") == 2000
    assert load.rate_of("  50 requests in 500.00ms, 1.2MB read\n") == 100
    for bad in (
        "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
        "  Non-2xx or 3xx responses: 3\n",
        "  0 requests in 1s,",
    ):
        with pytest.raises(ValueError):
            load.rate_of("  5000 requests in 2.50s, 1.2MB read\n" * (" 0 " not in bad[:5]) + bad)


def test_the_plain_haproxy_does_all_that_the_userlb_does_but_looks_no_lane_up() -> None:
    pool = texts.plain_pool("/somewhere", "127.0.0.1:1", "10.0.0.1:80")
    text = texts.haproxy(pool)
    assert "http-request set-header X-Forwarded-Proto" in text
    assert "unique-id-format" in text and "log-format" in text
    assert not any(f"map({path})" in text for path in pool.maps) and "use_backend" not in text
    assert text.endswith("backend plain\n    option http-server-close\n    server site 10.0.0.1:80\n")


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], "asyncio.Future[None]"]


@contextmanager
def served(stall_s: float = 0.0, answer: bytes = ANSWER) -> Iterator[Target]:
    """By a server in a thread of its own. `stall_s`: it does nothing for so long at its third request."""
    started, loop = threading.Event(), asyncio.new_event_loop()
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                asked += 1
                if asked == 3:
                    time.sleep(stall_s)  # noqa: ASYNC251 - all of it stands still
                writer.write(answer)
                if b"Connection: close" in head:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def main() -> None:
        nonlocal address
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        started.set()
        await stop.wait()
        server.close()

    address = ("", 0)
    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    started.wait(5)
    try:
        yield Target(address, "a.test", PAGE)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


@pytest.mark.parametrize("keep", [True, False])
def test_a_stall_is_felt_by_all_that_were_due_meanwhile(keep: bool) -> None:
    with served(stall_s=0.5) as target:
        latencies = load.at_rate(target, 50, 40, keep=keep)
    assert len(latencies) == 40
    assert 15 < sum(latency > 100 for latency in latencies) < 35
    assert max(latencies) > 450


def test_anything_but_the_page_is_an_error() -> None:
    with served(answer=ANSWER.replace(b"page", b"PAGE")) as target, pytest.raises(ExceptionGroup) as failed:
        load.in_turn(target, 4, 2)
    assert failed.group_contains(ValueError, match="instead of the page")


@pytest.mark.system
def test_whole_run_has_every_row_and_ratio() -> None:
    report = throughput.run(quick=True)
    whats = {result.what for result in report.results}
    for name in (BACKEND, HAPROXY, LANE, NGINX, MITMDUMP, SCRIPT, LEAN, TWO_HOPS):
        assert f"{name}: {KEPT}" in whats
        assert (f"{name}: CPU" in whats) is (name != BACKEND)
    assert report.ratios["lane_over_mitmdump"] > 2
    assert 0 < report.ratios["lane_over_haproxy"] < 5
    assert 0 < report.ratios["lean_over_mitmdump_cpu"] < 0.9
    assert 0 < report.ratios["script_over_mitmdump_cpu"] < 1.2
