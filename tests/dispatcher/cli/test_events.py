import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.plugins.etcd import EtcdServer

Cli = Callable[..., Any]


def put(etcd: EtcdServer, app: str, at: float, **values: str) -> None:
    etcd.ctl(
        "put", f"/fastcontainer/events/{app}/{at}", json.dumps({"at": at, "kind": "started", "message": "m"} | values)
    )


def test_events_in_order_of_time(cli: Cli, etcd: EtcdServer) -> None:
    put(etcd, "blog", 3.0, life="blog/1.4", message="GET /\x1b[31m")
    put(etcd, "shop", 2.0, kind="refused", key="/fastcontainer/apps/shop/cpu", value="lots")
    put(etcd, "blog", 1.0)
    assert [each["at"] for each in cli("events", "--json").json] == [1.0, 2.0, 3.0]
    assert [each["at"] for each in cli("events", "--limit", "1", "--json").json] == [3.0]
    assert [each["app"] for each in cli("events", "blog", "--json").json] == ["blog", "blog"]
    lines = cli("events").out.splitlines()
    assert "refused" in lines[2] and "(/fastcontainer/apps/shop/cpu = 'lots')" in lines[2]
    assert "blog/1.4" in lines[3] and lines[3].endswith("GET /\\x1b[31m")


def test_follow(cli: Cli, etcd: EtcdServer) -> None:
    put(etcd, "blog", 1.0)
    command = [sys.executable, "-c", "from dispatcher.cli import main; main()", "events", "blog", "-f", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["at"] == 1.0
        put(etcd, "shop", 2.0)
        put(etcd, "blog", 3.0)
        assert json.loads(process.stdout.readline())["at"] == 3.0
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
