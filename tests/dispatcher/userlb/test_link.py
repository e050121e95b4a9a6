from dispatcher.compute.protocol import Traffic
from dispatcher.userlb.link import LaneLink
from tests.fakes.agent import FakeAgent
from tests.fakes.sites import hello
from tests.plugins.installation import wait_for


async def test_what_was_heard_is_kept_until_it_is_so(tmp_path) -> None:
    agent = FakeAgent(str(tmp_path / "agent.sock"))
    agent.site("blog", hello())
    await agent.start()
    link = LaneLink(agent.path, "userlb", in_flight=lambda life: 7, lives_in_use=dict)
    link.start()
    try:
        await link.synced.wait()
        live = await agent.run("blog")
        agent.drain("blog")
        await wait_for(lambda: link.unheard == {live.life: 1}, 3.0)
        link.traffic({live.life: 3})
        await agent.until(lambda: agent.counts.get(live.life) == 3)
        assert agent.heard == {}
        agent.drain("blog")
        await wait_for(lambda: link.unheard == {live.life: 2}, 3.0)
        link.confirm({live.life: (1, 3)})  # counted before the second word
        assert link.unheard == {live.life: 2}
        link.confirm({"blog/7.7": (1, 3)})  # taken back, or gone
        link.confirm({live.life: (2, 0)})
        await agent.until(lambda: agent.heard.get(live.life) == 2)
        assert (agent.counts, link.unheard) == ({live.life: 0}, {})
        assert Traffic({live.life: 7}, 2) not in agent.traffic
    finally:
        await link.close()
        await agent.close()
