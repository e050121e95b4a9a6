import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dispatcher.compute import service_checks
from dispatcher.compute.findings import State
from dispatcher.compute.protocol import Enter, Refused, decode_to_agent, encode
from dispatcher.problems import Code
from dispatcher.settings import Settings
from tests.plugins.etcd import EtcdServer, free_port


def test_a_real_etcd(etcd: EtcdServer) -> None:
    (found,) = service_checks.etcd(Settings(etcd=(etcd.endpoint,)))
    assert found.state is State.OK and found.found.startswith("3.")


class Etcd(BaseHTTPRequestHandler):
    healthy, size = "true", 0

    def do_GET(self) -> None:
        answers = {
            "/version": '{"etcdserver": "3.5.0"}',
            "/health": f'{{"health": "{self.healthy}", "reason": "ALARM NOSPACE"}}',
            "/metrics": f"# HELP\netcd_mvcc_db_total_size_in_bytes {float(self.size)}\n",
        }
        self.send_response(503 if self.path == "/health" and self.healthy == "false" else 200)
        self.end_headers()
        self.wfile.write(answers[self.path].encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def etcd_that_says(healthy: str, size: int) -> Iterator[str]:
    handler = type("Handler", (Etcd,), {"healthy": healthy, "size": size})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("healthy", "size", "state", "said"),
    [
        ("true", 20 << 20, State.OK, "3.5.0, database 20M"),
        ("true", 1900 << 20, State.DEGRADED, "database 1900M"),
        ("false", 2 << 30, State.MISSING, "ALARM NOSPACE"),
    ],
)
def test_what_etcd_says(healthy: str, size: int, state: State, said: str) -> None:
    with etcd_that_says(healthy, size) as endpoint:
        (found,) = service_checks.etcd(Settings(etcd=(endpoint,)))
    assert found.state is state and said in found.found


def test_one_of_two_members_is_down(etcd: EtcdServer) -> None:
    settings = Settings(etcd=(etcd.endpoint, f"127.0.0.1:{free_port()}"))
    assert [each.state for each in service_checks.etcd(settings)] == [State.OK, State.MISSING]


def test_no_agent_and_no_launcher(tmp_path: Path) -> None:
    settings = Settings(run_dir=str(tmp_path))
    for found in (service_checks.agent(settings), service_checks.launcher(settings)):
        assert found.state is State.MISSING and "fastcontainer" in found.remedy


async def test_any_answer_of_the_agent_will_do(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = decode_to_agent(await reader.readline())
        assert isinstance(asked, Enter)
        writer.write(encode(Refused(asked.id, Code.UNKNOWN_CONTAINER, "no")))
        await writer.drain()
        writer.close()

    settings = Settings(run_dir=str(tmp_path))
    async with await asyncio.start_unix_server(answer, settings.agent_socket):
        found = await asyncio.to_thread(service_checks.agent, settings)
    await asyncio.get_running_loop().shutdown_default_executor()
    assert found.state is State.OK


def test_the_launcher_is_looked_at_and_not_asked(tmp_path: Path) -> None:
    settings = Settings(run_dir=str(tmp_path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(settings.launcher_socket)
        assert service_checks.launcher(settings).state is State.MISSING
        listener.listen()
        listener.setblocking(False)
        assert service_checks.launcher(settings).state is State.OK
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
        free = f"127.0.0.1:{free_port()}"
        settings = Settings(userproxy_listen=taken, webdispatcher_listen=free, agent_metrics="nonsense")
        monkeypatch.setattr(service_checks, "_command", lambda pid: "apache2 -k start" if pid == os.getpid() else "")
        found = {each.what: each for each in service_checks.ports(settings)}
        assert found["port of userproxy"].state is State.MISSING and "apache2" in found["port of userproxy"].found
        assert found["port of webdispatcher"].state is State.OK
        assert found["port of agent metrics"].state is State.MISSING
        monkeypatch.setattr(service_checks, "_command", lambda pid: "mitmdump -s addons/userproxy.py")
        assert service_checks.ports(settings)[0].found.endswith("ours")
