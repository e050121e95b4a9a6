"""What may be said on the agent's socket, and what ends a connection."""

import msgspec
import pytest

from dispatcher.compute import protocol
from dispatcher.compute.protocol import (
    Answer,
    Attach,
    Done,
    Door,
    Ensure,
    Enter,
    FromAgent,
    Gone,
    Live,
    Refused,
    Start,
    Stop,
    Synced,
    ToAgent,
    Traffic,
)
from dispatcher.domain import Cause, Status
from dispatcher.problems import Code

LIVE = Live("blog", "1", 3, Status.RUNNING, "100.96.0.7:80", 5)


@pytest.mark.parametrize(
    "message",
    [
        Attach("userproxy"),
        Ensure(1, "blog", "1", 30.0, Cause.REQUEST, "GET blog.example.com/"),
        Traffic({"blog/1.3": 0}),
        Start(2, "blog"),
        Stop(3, "blog", "1", now=True),
        Enter(4, "blog"),
    ],
)
def test_what_is_said_to_the_agent_arrives_in_one_line(message: ToAgent) -> None:
    line = protocol.encode(message)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert protocol.decode_to_agent(line) == message


@pytest.mark.parametrize(
    "message",
    [
        LIVE,
        Gone("blog", "1", 3, "it exited with code 1\nand said so"),
        Synced("here"),
        Answer(1, LIVE, {"exec": 0.7}),
        Refused(2, Code.BACKING_OFF, "app blog failed", retry_after_s=1.5),
        Door(3, "blog/1.3", 4711, ("/sys/fs/cgroup/fastcontainer/7",), 200_000, "/", {"A": "b"}),
        Done(4, ("blog/1.3",)),
    ],
)
def test_what_the_agent_says_arrives_in_one_line(message: FromAgent) -> None:
    line = protocol.encode(message)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert protocol.decode_from_agent(line) == message


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"ensure",
        b"[]",
        b'{"type":"destroy","id":1}',
        b'{"type":"ensure","id":1,"app":"blog"}',
        b'{"type":"ensure","id":"1","app":"blog","container":"1","wait_s":1}',
        b'{"type":"traffic","in_flight":{"blog/1.3":-1}}',
        b'{"type":"live","app":"blog","container":"1","generation":1,"status":"running","address":""}',
    ],
)
def test_a_line_that_is_not_in_the_list_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        protocol.decode_to_agent(line)


def test_a_lifes_name() -> None:
    assert LIVE.life == "blog/1.3"
