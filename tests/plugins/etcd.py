"""Real etcd servers for tests, each in a directory and on ports of its own.

etcd        a server shared by the whole run, emptied before each test
new_etcd    starts one that the test may kill, stop, wipe or protect
"""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

START_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class EtcdServer:
    def __init__(self, directory: Path, *flags: str, tls: tuple[Path, Path, Path] | None = None) -> None:
        """`tls`: CA, certificate and key, as files."""
        self.endpoint = f"127.0.0.1:{free_port()}"
        self._peer = f"127.0.0.1:{free_port()}"
        self._directory = directory
        self._flags = flags
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def scheme(self) -> str:
        return "https" if self._tls else "http"

    @property
    def data(self) -> Path:
        return self._directory / "data"

    def start(self) -> None:
        scheme = self.scheme
        command = [
            "etcd", "--name", "test", "--data-dir", str(self.data), "--logger", "zap", "--log-level", "error",
            "--listen-client-urls", f"{scheme}://{self.endpoint}", "--advertise-client-urls", f"{scheme}://{self.endpoint}",
            "--listen-peer-urls", f"http://{self._peer}", "--initial-advertise-peer-urls", f"http://{self._peer}",
            "--initial-cluster", f"test=http://{self._peer}",
            "--heartbeat-interval", "50", "--election-timeout", "500",  # they set the shortest lease: 1 s
            *self._flags,
        ]  # fmt: skip
        if self._tls:
            _, certificate, key = self._tls
            command += ["--cert-file", str(certificate), "--key-file", str(key)]
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"etcd did not start: {(self._directory / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def _serves(self) -> bool:
        # Its port is open long before it answers.
        trust = ssl.create_default_context(cafile=str(self._tls[0])) if self._tls else None
        try:
            with urllib.request.urlopen(f"{self.scheme}://{self.endpoint}/health", timeout=2, context=trust) as answer:
                return b'"true"' in answer.read()
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)

    def revision(self) -> int:
        status = json.loads(self.ctl("endpoint", "status", "--write-out", "json"))
        return int(status[0]["Status"]["header"]["revision"])

    def ctl(self, *arguments: str) -> str:
        trust = ["--cacert", str(self._tls[0])] if self._tls else []
        command = ["etcdctl", "--endpoints", f"{self.scheme}://{self.endpoint}", *trust, *arguments]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout


@pytest.fixture
def new_etcd(tmp_path: Path) -> Iterator[Callable[..., EtcdServer]]:
    servers: list[EtcdServer] = []

    def start(*flags: str, tls: tuple[Path, Path, Path] | None = None) -> EtcdServer:
        server = EtcdServer(tmp_path / f"etcd-{len(servers)}", *flags, tls=tls)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def _shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def etcd(_shared_etcd: EtcdServer) -> EtcdServer:
    _shared_etcd.ctl("del", "--prefix", "/")
    return _shared_etcd
