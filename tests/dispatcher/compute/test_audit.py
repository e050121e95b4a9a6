"""A live container is looked into by the door that its agent shows; findings: tests/containerlib/test_security.py."""

import asyncio
import json
import os

import pytest

from dispatcher.cli.root import run
from dispatcher.compute.audit import audit
from dispatcher.compute.protocol import Door
from dispatcher.problems import Code, Problem
from tests.plugins.compute import Host

GONE = Door(1, "blog/1.1", 1 << 22, (), 345_678, "/", {})


@pytest.mark.system
def test_a_container_that_ended_meanwhile() -> None:
    with pytest.raises(Problem, match=r"blog/1\.1 ended meanwhile") as refused:
        audit(GONE)
    assert refused.value.code is Code.CONTAINER_DIED


def test_only_root_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Problem) as refused:
        audit(GONE)
    assert refused.value.code is Code.FORBIDDEN


def say(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run(words)
    assert not ended.value.code


@pytest.mark.system
async def test_on_the_command_line(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await host.app("blog")
    await host.wake("blog")
    monkeypatch.setenv("FASTCONTAINER_RUN_DIR", host.settings.run_dir)
    await asyncio.to_thread(say, "audit", "blog", "--json")
    found = json.loads(capsys.readouterr().out)
    memory = {"severity": "medium", "what": "no limit of memory", "found": "none but the host's own"}
    assert {**memory, "remedy": "limit its memory"} in found
    await asyncio.to_thread(say, "audit", "blog")
    assert capsys.readouterr().out.splitlines()[:2] == [
        "SEVERITY  WHAT                FOUND                    REMEDY",
        "medium    no limit of memory  none but the host's own  limit its memory",
    ]
