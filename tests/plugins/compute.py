"""Computes of tests' own: networks, control groups and directories that no other installation on this machine has."""

import asyncio
import itertools
import os
import time
from collections.abc import Callable

_networks = itertools.count(os.getpid() * 7)


def free_network() -> str:
    """A /24 of shared address space (RFC 6598) above what settings.network and its neighbours take."""
    number = next(_networks) % (28 * 256)
    return f"100.{100 + number // 256}.{number % 256}.0/24"


async def until(condition: Callable[[], object], *, within_s: float = 5.0, why: str = "") -> None:
    """Looks at each turn of the loop: what it waits for has no event of its own."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, why or "it did not come to pass"
        await asyncio.sleep(0.002)
