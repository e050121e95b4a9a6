"""./quickstart as people use it, beside an installation that may be running: its own directories, ports, network and cgroup."""

import http.client
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dispatcher.quickstart.control import Manager, strays
from dispatcher.settings import Settings, load

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def free_addresses(count: int) -> list[str]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in held]
    for each in held:
        each.close()
    return addresses


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    listeners = (
        "ETCD",
        "USERPROXY_LISTEN",
        "WEBDISPATCHER_LISTEN",
        "USERPROXY_METRICS",
        "WEBDISPATCHER_METRICS",
        "USERLB_METRICS",
    )
    names = (*listeners, "AGENT_METRICS")
    own = dict(zip(names, free_addresses(len(names)), strict=True))
    own |= {f"{name}_DIR": str(tmp_path / name.lower()) for name in ("RUN", "STATE", "LOG")}
    own |= {"NETWORK": "100.126.0.0/16", "CGROUP": f"fcquick{os.getpid()}", "COMPUTE": "quick", "BLANKS": "2"}
    found = {name: value for name, value in os.environ.items() if not name.startswith("FASTCONTAINER_")}
    yield found | {f"FASTCONTAINER_{name}": value for name, value in own.items()}
    quickstart(found | {f"FASTCONTAINER_{name}": value for name, value in own.items()}, "down", "--purge")


def quickstart(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "quickstart", *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def get(settings: Settings, host: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(settings.userproxy_listen, timeout=30)
    try:
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def said(done: subprocess.CompletedProcess[str]) -> str:
    return f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


def test_start_use_start_again_kill_and_stop(environment: dict[str, str]) -> None:
    settings = load(environment)
    done = quickstart(environment, "--detach")
    assert done.returncode == 0, said(done)
    status, body = get(settings, "hello.localhost")
    assert (status, body.splitlines()[0]) == (200, "Hello, hello.localhost!")
    status, body = get(settings, "php.localhost")
    assert status == 200
    assert "phpinfo()" in body
    assert get(settings, "nobody.localhost")[0] == 404

    again = quickstart(environment, "--detach")
    assert again.returncode == 0, said(again)
    assert "runs already" in again.stdout

    # Half of it dead: the manager without a chance to say goodbye, and the launcher.
    manager = Manager(settings).pid()
    assert manager is not None
    launcher = next(child for child in psutil.Process(manager).children() if "launcher" in " ".join(child.cmdline()))
    os.kill(manager, signal.SIGKILL)
    launcher.kill()
    down = quickstart(environment, "down")
    assert down.returncode == 0, said(down)
    assert strays(settings) == []
    assert not Path(settings.run_dir).exists()
    assert Path(settings.state_dir, "etcd").exists()

    once_more = quickstart(environment, "down", "--purge")
    assert once_more.returncode == 0, said(once_more)
    assert not Path(settings.state_dir).exists()


def test_in_the_foreground_ctrl_c_stops_everything(environment: dict[str, str]) -> None:
    settings = load(environment)
    process = subprocess.Popen(
        [ROOT / "quickstart"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert any("Ctrl-C stops everything" in line for line in process.stdout)
    assert get(settings, "hello.localhost")[0] == 200
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert strays(settings) == []
    assert not Path(settings.run_dir).exists()


def test_a_taken_port_is_one_line_with_the_remedy(environment: dict[str, str]) -> None:
    host, port = load(environment).userproxy_listen.split(":")
    with socket.create_server((host, int(port))):
        done = quickstart(environment, "--detach")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{host}:{port} is taken by" in line
    assert "FASTCONTAINER_USERPROXY_LISTEN" in line


def test_without_root_and_sudo_it_says_so(environment: dict[str, str], tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "readlink"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    # In a user namespace without a map nobody is root.
    done = subprocess.run(
        ["/usr/bin/unshare", "--user", ROOT / "quickstart", "--detach"],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "quickstart: it needs root (namespaces, cgroups, packages): run it as root\n"


@pytest.mark.parametrize("words", [("up",), ("down", "--all"), ("--detach", "now")])
def test_a_wrong_call_shows_the_usage(environment: dict[str, str], words: tuple[str, ...]) -> None:
    done = quickstart(environment, *words)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ./quickstart")
