"""Sites that are frozen instead of stopped: what their visitors and their operator notice."""

import asyncio
import re
import urllib.request

import pytest

from dispatcher.domain import Start, Status
from tests.acceptance.load import Load
from tests.plugins.installation import wait_for

pytestmark = pytest.mark.system

LOADED_S = 6.0


def thaws(installation) -> float:
    with urllib.request.urlopen(f"http://{installation.settings.agent_metrics}/metrics", timeout=5) as response:
        text = response.read().decode()
    found = re.search(r'^fastcontainer_thaws_total\{cause="request"\} (\S+)', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


# The first pauses between its requests for long enough to be frozen each time; the second is frozen, or nearly, at the very
# moment in which the next request comes.
@pytest.mark.parametrize(
    ("idle_s", "rate", "containers", "thaws_min"), [(0.1, 2.0, "1", 5), (0.01, 25.0, "2", 10)], ids=["pauses", "races"]
)
async def test_frozen_and_thawed_again_and_again_no_request_fails(installation, idle_s, rate, containers, thaws_min):
    words = {"containers": containers}
    await installation.create("frosty", words=words, idle_s=idle_s, start=Start.FROZEN)
    assert (await installation.ask("frosty")).status == 200
    before = await asyncio.to_thread(thaws, installation)
    # POST: one that failed could not be repeated behind our back.
    async with Load(installation.port, "frosty.localhost", rate=rate, method="POST") as load:
        await asyncio.sleep(LOADED_S)
    thawed = await asyncio.to_thread(thaws, installation) - before
    print(load.report(), f"{thawed:g} thaws")
    assert not load.failed, load.report()
    assert thawed >= thaws_min
    assert {event.life for event in await installation.events("frosty", "started")} == {
        f"frosty/{id}.1" for id in range(1, int(containers) + 1)
    }, "none was started anew"
    await installation.remove("frosty")


async def test_what_the_operator_sees(installation):
    await installation.create("icy", start=Start.FROZEN, idle_s=0.5, server_timing=True)
    await installation.wake("icy")

    async def frozen():
        return [live for live in (await installation.lives("icy")).values() if live.status is Status.FROZEN]

    await wait_for(frozen, 5.0, "it is frozen")
    await wait_for(lambda: "frozen" in installation.cli("ps", "icy").stdout, 3.0, "ps shows it")
    (row,) = installation.cli_json("ps", "icy")
    assert row["status"] == "frozen"
    assert row["expires"] > row["started"]
    done = installation.cli("exec", "icy", "--", "cat", "/proc/1/stat")
    assert done.returncode == 0, done.stderr
    await wait_for(frozen, 5.0, "it is frozen again when the visitor has left")
    response = await installation.ask("icy")
    assert response.status == 200
    assert "thaw;dur=" in response.headers["server-timing"]

    async def causes():
        return [event.message for event in await installation.events("icy", "thawed")] == [
            "manual: somebody looks inside",
            "request: GET icy.localhost/",
        ]

    await wait_for(causes, 3.0, "what thawed it is told")
    await wait_for(frozen, 5.0, "it is frozen once more")
    assert "icy/1.1" in installation.cli("stop", "icy").stdout
    await installation.asleep("icy", within_s=3.0)
    await installation.remove("icy")
