import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dispatcher.quickstart.control import accepts
from dispatcher.quickstart.samples import SAMPLE_APPS, SAMPLES, create_missing


def command_line(directory: Path, create_exit_code: int) -> Path:
    script = directory / "fastcontainer"
    exits = f'[ "$2" = edit ] || {{ echo "no such luck" >&2; exit {create_exit_code}; }}'
    script.write_text(f'#!/bin/sh\necho "$*" >> {directory}/calls\n{exits}\n')
    script.chmod(0o755)
    return directory


def test_missing_sites_are_made(tmp_path: Path) -> None:
    assert create_missing(command_line(tmp_path, 0), {}) == list(SAMPLE_APPS)


def test_sites_that_exist_keep_everything_but_the_place_of_the_checkout(tmp_path: Path) -> None:
    assert create_missing(command_line(tmp_path, 4), {}) == []
    edits = [line for line in (tmp_path / "calls").read_text().splitlines() if " edit " in f" {line} "]
    assert edits == [f"app edit {name} --mount={SAMPLES}/{name}:/srv/{name}:ro" for name in SAMPLE_APPS]


def test_a_refusal_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such luck"):
        create_missing(command_line(tmp_path, 6), {})


def test_hello_tells_who_asked_and_keeps_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "PORT": str(port)}
    with subprocess.Popen([sys.executable, "-SI", SAMPLES / "hello" / "hello.py"], env=environment) as server:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            _wait_for(port)
            for method in ("GET", "POST", "HEAD", "GET"):
                connection.request(
                    method, "/path", body=b"12345" if method == "POST" else None, headers={"Host": "a.example"}
                )
                answer = connection.getresponse()
                body = answer.read().decode()
                assert answer.status == 200
                assert method == "HEAD" or (body.startswith("Hello, a.example!") and f"{method} /path" in body)
            connection.close()
        finally:
            server.kill()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while not accepts(f"127.0.0.1:{port}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.system
def test_apache_accepts_its_configuration() -> None:
    assert shutil.which("apache2")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    config = SAMPLES / "php" / "httpd.conf"
    done = subprocess.run(["apache2", "-t", "-f", str(config)], env=environment, capture_output=True, text=True)
    # Its content is mounted where only the container has it.
    assert "Syntax OK" in done.stderr or "'/srv/php/www' is not a directory" in done.stderr, done.stderr
