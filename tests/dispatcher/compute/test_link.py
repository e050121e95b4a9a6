"""The client side of the agent's socket, against a fake agent on a real one."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dispatcher.compute import link as link_module
from dispatcher.compute import protocol
from dispatcher.compute.link import AgentLink, say
from dispatcher.compute.protocol import Done, Enter, Gone, Live, Refused, Stop
from dispatcher.domain import Status
from dispatcher.problems import Code, Problem
from tests.fakes import sites
from tests.fakes.agent import FakeAgent


class Wire:
    def __init__(self, path: Path) -> None:
        self.agent = FakeAgent(str(path / "agent.sock"))
        self.counts: dict[str, int] = {}
        self.heard: list[Live | Gone] = []
        self.changed = asyncio.Event()
        self.link = AgentLink(
            self.agent.path,
            "userproxy",
            in_flight=lambda life: self.counts.get(life, 0),
            lives_in_use=lambda: dict(self.counts),
            changed=self.hear,
        )

    def hear(self, message: Live | Gone) -> None:
        self.heard.append(message)
        self.changed.set()

    async def next_change(self) -> Live | Gone:
        async with asyncio.timeout(5):
            while not self.heard:
                self.changed.clear()
                await self.changed.wait()
        return self.heard.pop(0)


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    wire = Wire(tmp_path)
    await wire.agent.start()
    wire.link.start()
    async with asyncio.timeout(5):
        await wire.link.synced.wait()
    yield wire
    await wire.link.close()
    await wire.agent.close()


async def test_many_questions_are_one_start_and_all_are_answered(wire):
    site = wire.agent.site("blog", sites.hello(), start_s=0.02)
    answers = await asyncio.gather(*(wire.link.ensure("blog", "1", wait_s=5) for _ in range(50)))
    assert site.starts == 1
    assert {answer.live.life for answer in answers} == {"blog/1.1"}
    assert set(answers[0].phases) == {"exec", "listen"}
    assert wire.link.live["blog"]["1"].status is Status.RUNNING


async def test_what_a_client_wrote_in_a_path_does_not_part_proxy_and_agent(wire):
    wire.agent.site("blog", sites.hello())
    path = b"GET blog/\xff\x9b\xed\xa0\x80".decode("utf-8", "surrogateescape")
    answer = await wire.link.ensure("blog", "1", wait_s=5, detail=path)
    assert answer.live.life == "blog/1.1"
    with pytest.raises(UnicodeEncodeError):
        await wire.link.ensure("\udcff", "1", wait_s=5)
    assert not wire.link._waiting  # else attaching again would fail for ever


async def test_a_refusal_is_a_problem(wire):
    wire.agent.site("blog", sites.hello(), refuse=Problem(Code.BACKING_OFF, "crashed", hint="see", retry_after_s=3))
    with pytest.raises(Problem) as caught:
        await wire.link.ensure("blog", "1", wait_s=5)
    problem = caught.value
    assert (problem.code, problem.message, problem.hint, problem.retry_after_s) == (
        Code.BACKING_OFF,
        "crashed",
        "see",
        3,
    )


async def test_a_start_that_takes_too_long(wire, monkeypatch):
    monkeypatch.setattr(link_module, "ANSWER_GRACE_S", 0.01)
    wire.agent.site("blog", sites.hello()).gate.clear()
    with pytest.raises(Problem) as caught:
        await wire.link.ensure("blog", "1", wait_s=0.02)
    assert caught.value.code is Code.START_TIMEOUT
    wire.agent.sites["blog"].gate.set()


async def test_draining_is_acknowledged_at_once_with_the_count(wire):
    wire.agent.site("blog", sites.hello())
    await wire.agent.run("blog")
    wire.counts["blog/1.1"] = 3
    wire.agent.drain("blog")
    await wire.agent.until(lambda: wire.agent.traffic == [{"blog/1.1": 3}])
    wire.counts.clear()
    wire.agent.drain("blog")
    await wire.agent.until(lambda: wire.agent.traffic[1:] == [{"blog/1.1": 0}])
    assert wire.agent.heard == {"blog/1.1": 2}


async def test_freezing_is_acknowledged_in_the_same_way_and_thawing_needs_no_answer(wire):
    wire.agent.site("blog", sites.hello())
    await wire.agent.run("blog")
    wire.agent.freeze("blog")
    await wire.agent.until(lambda: wire.agent.traffic == [{"blog/1.1": 0}])
    assert wire.agent.heard == {"blog/1.1": 1}
    answer = await wire.link.ensure("blog", "1", wait_s=5)
    assert (answer.live.status, answer.live.generation) == (Status.RUNNING, 1)
    wire.counts["blog/1.1"] = 1
    wire.agent.freeze("blog")
    await wire.agent.until(lambda: wire.agent.traffic[1:] == [{"blog/1.1": 1}])
    assert wire.agent.heard == {"blog/1.1": 2}


async def test_what_is_older_changes_nothing(wire):
    new = Live("blog", "1", 2, Status.RUNNING, "127.0.0.1:2")
    for message in (new, Live("blog", "1", 1, Status.RUNNING, "127.0.0.1:1"), Gone("blog", "1", 1)):
        wire.agent.push(message)
    assert await wire.next_change() == new
    assert await wire.next_change() == Gone("blog", "1", 1)
    assert wire.link.live == {"blog": {"1": new}}
    wire.agent.push(Gone("blog", "1", 2))
    await wire.next_change()
    assert wire.link.live == {}


async def test_while_the_agent_is_away_its_view_stays_and_questions_wait(wire):
    wire.agent.site("blog", sites.hello())
    wire.agent.site("shop", sites.hello())
    await wire.link.ensure("blog", "1", wait_s=5)
    wire.counts["blog/1.1"] = 2
    await wire.agent.stop()
    asked = asyncio.get_running_loop().create_task(wire.link.ensure("shop", "1", wait_s=5))
    await asyncio.sleep(0)
    assert wire.link.live["blog"]["1"].status is Status.RUNNING
    wire.agent.traffic.clear()
    await wire.agent.start()
    assert (await asked).live.app == "shop"
    assert wire.agent.traffic[0] == {"blog/1.1": 2}
    assert wire.link.connects == 2


async def test_what_ended_while_the_link_was_down_is_gone(wire):
    wire.agent.site("blog", sites.hello())
    await wire.agent.run("blog")
    await wire.next_change()
    await wire.next_change()
    await wire.agent.stop()
    wire.agent.kill("blog")
    await wire.agent.start()
    assert await wire.next_change() == Gone("blog", "1", 1)
    assert wire.link.live == {}


async def test_without_an_agent_a_question_ends_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(link_module, "ANSWER_GRACE_S", 0.01)
    wire = Wire(tmp_path)
    wire.link.start()
    with pytest.raises(Problem) as caught:
        await wire.link.ensure("blog", "1", wait_s=0.02)
    assert caught.value.code is Code.NO_COMPUTE
    await wire.link.close()


async def test_an_agent_that_talks_nonsense_is_left_and_tried_again(wire):
    for writer in list(wire.agent._writers):
        writer.write(b"nonsense\n")
    await wire.agent.until(lambda: len(wire.agent.attached) == 2)


async def test_the_command_line_waits_for_the_next_agent_when_one_was_killed(tmp_path, monkeypatch):
    path, gone = (str(tmp_path / name) for name in ("agent.sock", "gone.sock"))
    with socket.socket(socket.AF_UNIX) as killed:  # it is there, and nobody listens
        killed.bind(path)

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = protocol.decode_to_agent(await reader.readline())
        assert isinstance(asked, Stop)
        writer.write(protocol.encode(Done(asked.id, ("blog/1.1",))))
        writer.close()

    saying = asyncio.get_running_loop().create_task(say(path, Stop(1, "blog")))
    await asyncio.sleep(0)  # it was refused, or will be
    assert not saying.done()
    server = await asyncio.start_unix_server(agent, path)
    assert await saying == Done(1, ("blog/1.1",))
    server.close()
    monkeypatch.setattr(link_module, "RESTART_S", 0.0)
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(gone)
    with pytest.raises(Problem, match="does not answer"):
        await say(gone, Stop(1, "blog"))
    with pytest.raises(Problem, match="does not answer"), link_module.visit(gone, Enter(1, "blog")):
        pass


async def test_the_command_line_says_one_thing(tmp_path):
    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = protocol.decode_to_agent(await reader.readline())
        assert isinstance(asked, Stop)
        writer.write(protocol.encode(Live("other", "1", 1, Status.RUNNING, "")))
        if asked.app == "blog":
            writer.write(protocol.encode(Done(asked.id, ("blog/1.1",))))
        elif asked.app == "none":
            writer.write(protocol.encode(Refused(asked.id, Code.UNKNOWN_APP, "no such app")))
        writer.close()

    path = str(tmp_path / "agent.sock")
    with pytest.raises(Problem, match="does not answer"):
        await say(path, Stop(1, "blog"))
    server = await asyncio.start_unix_server(agent, path)
    assert await say(path, Stop(1, "blog")) == Done(1, ("blog/1.1",))
    with pytest.raises(Problem, match="no such app"):
        await say(path, Stop(2, "none"))
    with pytest.raises(Problem, match="closed the connection"):
        await say(path, Stop(3, "silent"))
    server.close()
