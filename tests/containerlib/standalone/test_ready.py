"""What needs no waiting. The waiting itself: test_runner.py; what a program does instead of getting ready: test_readiness.py."""

from typing import Any

from containerlib.spec import ContainerSpec
from containerlib.standalone.ready import wait_until_ready

NOBODY: Any = None


async def test_who_names_no_port_is_ready_at_once() -> None:
    await wait_until_ready(NOBODY, ContainerSpec("blog", ("php",)), "no-tracepoint-is-opened")
