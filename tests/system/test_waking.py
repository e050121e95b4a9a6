"""Sites that sleep, and the first who asks."""

import pytest

from dispatcher.compute.protocol import Answer
from dispatcher.domain import Status
from tests.plugins.compute import Host, fetch

pytestmark = pytest.mark.system


async def test_a_sleeping_site_wakes_and_answers(host: Host) -> None:
    (host.content / "index.html").write_text("hello")
    await host.app("blog")
    answer = await host.ensure("blog")
    assert isinstance(answer, Answer)
    assert answer.live.status is Status.RUNNING
    assert (await fetch(answer.live.address)).endswith(b"hello")
    assert {"queue", "cgroup", "mounts", "exec", "listen"} <= set(answer.phases)
    await host.until_rows("blog", lambda rows: rows["1"].status is Status.RUNNING)
    row = await host.row("blog")
    assert row is not None
    assert (row.compute, row.generation, row.local_address) == ("here", 1, answer.live.address)
    assert row.image and row.started and row.expires > row.started
    assert "request" in (await host.event("blog", "started")).message
    assert "exec=" in (await host.event("blog", "ready")).message
