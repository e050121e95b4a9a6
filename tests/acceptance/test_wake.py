"""A request for a sleeping site starts its container, is held meanwhile, and is answered; silence stops it."""

import asyncio
import time

import pytest

from tests.acceptance.load import percentile
from tests.plugins.installation import wait_for

pytestmark = pytest.mark.system


async def test_php_wakes_is_shown_and_sleeps_again_without_a_trace(installation):
    installation.cli("app", "edit", "php", "--idle", "2s")
    before = installation.traces()
    assert installation.cli_json("ps") == []
    response = await installation.ask("php")
    assert response.status == 200 and b"PHP Version" in response.body
    (shown,) = await wait_for(lambda: installation.cli_json("ps"), 2.0)
    assert (shown["app"], shown["status"], shown["reason"]) == ("php", "running", "request")
    assert installation.traces() - before
    await installation.asleep("php", within_s=6.0)
    await wait_for(lambda: not installation.traces() - before, 3.0, "nothing is left of it")
    assert installation.traces() == before
    assert installation.cli_json("ps") == []
