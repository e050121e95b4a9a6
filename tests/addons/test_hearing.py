"""Which hooks mitmproxy is troubled with, with all of mitmdump's addons."""

import pytest
from mitmproxy import options
from mitmproxy.tools.dump import DumpMaster

from addons.hearing import LOOK_EVERY_S, Others

REQUEST_HOOKS = (
    "requestheaders",
    "request",
    "responseheaders",
    "response",
    "error",
    "server_connect",
    "server_connected",
)


class Script:
    addons = ()

    def responseheaders(self, flow):
        pass


@pytest.fixture
async def master():
    master = DumpMaster(options.Options(), with_termlog=False)
    yield master
    await master.done()


async def test_mitmproxys_own_addons_hear_nothing_unless_an_option_is_for_them(master):
    now = 0.0
    others = Others(master, object(), lambda: now)
    assert [hook for hook in REQUEST_HOOKS if others.hear(hook)] == []
    master.options.update(mode=["reverse:http://127.0.0.1:9@8000"], keep_host_header=True, flow_detail=0)
    now += LOOK_EVERY_S
    assert [hook for hook in REQUEST_HOOKS if others.hear(hook)] == []
    master.options.update(stickycookie=".*")
    assert not others.hear("response")  # for a moment more
    now += LOOK_EVERY_S
    assert others.hear("response") and others.hear("request")
    assert not others.hear("no_such_hook")


async def test_scripts_hear_what_they_have_a_hook_for(master):
    now, ours, script = 0.0, Script(), Script()
    others = Others(master, ours, lambda: now)
    master.addons.get("scriptloader").addons.append(ours)
    assert not others.hear("responseheaders")
    script.name = "other"
    master.addons.add(script)
    now += LOOK_EVERY_S
    assert others.hear("responseheaders")
    assert not others.hear("requestheaders")
