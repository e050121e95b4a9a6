"""What others ask of a runner."""

import os
import signal
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from containerlib.hooks import Moment, SignalHandler
from containerlib.spec import ContainerSpec, Stop
from containerlib.standalone.asked import Asked
from containerlib.standalone.control import Refused
from containerlib.standalone.runner import Runner
from tests.plugins.compute import until


def poke(container: Moment) -> None: ...


@dataclass
class Told:
    asides: list[str] = field(default_factory=list)

    def aside(self, _task: object, cause: str) -> None:
        self.asides.append(cause)


@dataclass
class Fake:
    spec: ContainerSpec = field(
        default_factory=lambda: ContainerSpec(
            "web",
            ("x",),
            stop=Stop(signal.SIGQUIT, 3.0),
            signal_handlers=(SignalHandler(function=poke, signal=signal.SIGUSR1),),
        )
    )
    told: Told = field(default_factory=Told)
    stops: list[Stop] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    reloads: list[str] = field(default_factory=lambda: ["applied: cgroup"])

    def stop(self, how: Stop) -> None:
        self.stops.append(how)

    def say(self, text: str) -> None:
        self.said.append(text)

    async def reload(self) -> str:
        if not self.reloads:
            raise Refused("not now")
        return self.reloads.pop()


@pytest.mark.parametrize(
    ("request_", "stop"),
    [
        ({}, Stop(signal.SIGQUIT, 3.0)),
        ({"signal": "TERM"}, Stop(signal.SIGTERM, 3.0)),
        ({"signal": "", "grace_s": 0}, Stop(signal.SIGQUIT, 0.0)),
    ],
)
async def test_a_stop_as_its_definition_says_or_as_asked(request_: dict[str, Any], stop: Stop) -> None:
    runner = Fake()
    with Asked(cast(Runner, runner)) as asked:
        assert await asked.answer({"ask": "stop", **request_}) == "stopping"
    assert runner.stops == [stop]


@pytest.mark.parametrize(
    "request_", [{"ask": "stop", "signal": "NEVER"}, {"ask": "stop", "grace_s": "long"}, {"ask": "dance"}, {}]
)
async def test_nonsense_is_refused(request_: dict[str, Any]) -> None:
    runner = Fake()
    with Asked(cast(Runner, runner)) as asked, pytest.raises((Refused, ValueError, KeyError)):
        await asked.answer(request_)
    assert runner.stops == []


async def test_signals() -> None:
    runner = Fake()
    before = signal.getsignal(signal.SIGUSR1)
    with Asked(cast(Runner, runner)):
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        await until(lambda: len(runner.stops) == 2)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: runner.said)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(runner.said) == 2)
    assert runner.told.asides == ["USR1"]  # of USR2 nobody wants to hear; it ends nothing either
    assert runner.said == ["web: applied: cgroup", "web: not now"]
    assert signal.getsignal(signal.SIGUSR1) == before
