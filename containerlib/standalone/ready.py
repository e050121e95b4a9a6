"""Waiting until a container is ready, as its spec says."""

import asyncio
import time

from containerlib.handle import Container, StartFailed
from containerlib.readiness import Listening, answers_health, wait_until_listening, why_not
from containerlib.spec import ContainerSpec
from containerlib.standalone.machine import listen_events

HEALTH_EVERY_S = 0.1


async def wait_until_ready(container: Container, spec: ContainerSpec, events_name: str) -> None:
    """Raises StartFailed, which says what it did instead."""
    ready, began = spec.readiness, time.monotonic()
    if ready.port is None:
        return
    async with listen_events(events_name) as events:
        finding = await wait_until_listening(container.wire.diag, ready.port, events, ready.timeout_s)
    if finding.listening is not Listening.YES:
        raise StartFailed(why_not(finding, ready.port, ready.timeout_s, "its definition's readiness"))
    while ready.path and not await _answers(container, ready.port, ready.path, spec.host_name):
        if time.monotonic() - began > ready.timeout_s:
            raise StartFailed(f"it listens, but {ready.path} did not answer below 500 within {ready.timeout_s:g} s")
        await asyncio.sleep(HEALTH_EVERY_S)


async def _answers(container: Container, port: int, path: str, host: str) -> bool:
    try:
        async with asyncio.timeout(1.0):
            return await answers_health(container.address, port, path, host)
    except TimeoutError:
        return False
