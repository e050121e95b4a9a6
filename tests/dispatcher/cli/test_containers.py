import json
import time
from collections.abc import Callable
from typing import Any

from dispatcher.cli.containers import COLUMNS, container_row
from dispatcher.coreapi.views import Container
from dispatcher.domain import ContainerRow, Status
from tests.plugins.etcd import EtcdServer

Cli = Callable[..., Any]


def test_ps_shows_what_lives_or_failed(cli: Cli, etcd: EtcdServer) -> None:
    cli("app", "create", "blog", "--run", "x", "--containers", "3")
    now = time.time()
    running = {"compute": "here", "status": "running", "generation": 3, "address": "10.0.0.1:80", "cpu": "30%"}
    running |= {"started": now - 90, "expires": now + 3600.5}
    failed = {"compute": "here", "status": "failed", "generation": 1, "reason": "exited\x1b[2J with 1"}
    etcd.ctl("put", "/fastcontainer/containers/blog/1", json.dumps(running))
    etcd.ctl("put", "/fastcontainer/containers/blog/2", json.dumps(failed))
    lines = cli("ps").out.splitlines()
    assert lines[0].split() == [word for column in COLUMNS for word in column.split()]
    assert lines[1].split() == ["blog/1.3", "running", "here", "10.0.0.1:80", "1m30s", "1h", "30%"]
    assert lines[2].split(maxsplit=3) == ["blog/2.1", "failed", "here", "exited\\x1b[2J with 1"]
    assert len(lines) == 3
    assert [each["life"] for each in cli("ps", "-a", "--json").json] == ["blog/1.3", "blog/2.1", "blog/3.0"]
    assert [each["status"] for each in cli("ps", "--json").json] == ["running", "failed"]
    assert cli("ps", "nobody", "--json").json == []


def test_a_sleeping_container_has_no_age() -> None:
    row = ContainerRow("here", Status.REGISTERED, 7, address="10.0.0.1:80", started=1.0, expires=2.0)
    assert container_row(Container("blog", "1", row)) == ("blog/1.7", "registered", "here", *[""] * 6)


def test_without_an_agent(cli: Cli) -> None:
    for words in (("start", "blog"), ("stop", "blog"), ("exec", "blog", "--", "ls", "-l"), ("audit", "blog")):
        said = cli(*words)
        assert (said.code, said.out) == (6, "")
        assert "agent.sock" in said.err and "fastcontainer agent" in said.err


def test_without_an_address_for_others_the_local_one_is_shown() -> None:
    row = ContainerRow("here", Status.RUNNING, 1, local_address="100.96.0.2:80")
    assert container_row(Container("blog", "1", row))[3] == "100.96.0.2:80"
