import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import coldstart
from bench.coldstart import bundle, theirs, visit
from bench.coldstart.theirs import Rival

PAGE = b"a page"
COMMAND = ("/usr/bin/busybox", "httpd")


def test_runc_gets_every_namespace_but_the_network() -> None:
    config = bundle.runc_config("/the/site", COMMAND)
    assert [each["type"] for each in config["linux"]["namespaces"]] == ["pid", "ipc", "uts", "mount", "cgroup"]
    assert config["process"]["args"] == list(COMMAND)
    assert config["process"]["noNewPrivileges"]


def test_runc_gets_no_limit() -> None:
    assert set(bundle.runc_config("/the/site", COMMAND)["linux"]["resources"]) == {"devices"}


def test_runc_gets_the_host_s_usr_and_the_site_read_only() -> None:
    mounts = {each["destination"]: each for each in bundle.runc_config("/the/site", COMMAND)["mounts"]}
    assert mounts["/usr"]["source"] == "/usr"
    assert mounts[bundle.CONTENT]["source"] == "/the/site"
    assert all("ro" in mounts[path]["options"] for path in ("/usr", bundle.CONTENT, "/sys"))
    assert set(mounts) >= {f"/{name}" for name in bundle.ROOT_DIRECTORIES} - {"/tmp"}


def test_bubblewrap_shares_the_network_and_ends_with_the_command() -> None:
    words = bundle.bubblewrap("/the/site", COMMAND)
    assert "--unshare-net" not in words and "--unshare-all" not in words
    assert words[-3:] == ("--", *COMMAND)
    at = words.index("/the/site")
    assert words[at - 1 : at + 2] == ("--ro-bind", "/the/site", bundle.CONTENT)


def test_podman_touches_nothing_of_whoever_uses_it_here() -> None:
    words = bundle.podman("/state", "/run/x")
    assert words[words.index("--root") + 1] == "/state/store"
    assert words[words.index("--runroot") + 1] == "/run/x" and words[words.index("--tmpdir") + 1] == "/run/x/tmp"
    assert len(str(theirs.PODMAN_RUN)) <= 50  # podman's own limit
    run = bundle.podman_run("name", "group", "/root", "/the/site", COMMAND)
    assert run[run.index("--network") + 1] == "host" and run[run.index("--cgroup-parent") + 1] == "/group"
    assert run[-4:] == ("--rootfs", "/root", *COMMAND)


def test_what_podman_leaves_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theirs, "MOUNT", tmp_path / "cgroup")
    monkeypatch.setattr(theirs, "PODMAN_RUN", tmp_path / "run")
    (tmp_path / "cgroup/memory" / theirs.PODMAN_GROUP / "conmon").mkdir(parents=True)
    (tmp_path / "cgroup" / theirs.PODMAN_GROUP).mkdir()
    (tmp_path / "run/tmp").mkdir(parents=True)
    theirs.remove_podmans()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cgroup", "memory"]
    theirs.remove_podmans()  # of a run that had none


@pytest.mark.parametrize(
    ("header", "phases"),
    [
        ("queue;dur=4.0, exec;dur=2.5", {"queue": 4.0, "exec": 2.5}),
        ("queue;dur=4.0, queue;dur=0.1", {"queue": 4.0}),
        ('cache;desc="x";dur=1, miss', {"cache": 1.0}),
        ("", {}),
    ],
)
def test_phases_of_server_timing(header: str, phases: dict[str, float]) -> None:
    assert visit.phases_of(header) == phases


@contextmanager
def server(answer: bytes) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()
        thread.join()


def test_a_visit_takes_the_time_of_the_first_byte() -> None:
    began = time.perf_counter()
    with server(b"HTTP/1.1 200 OK\r\nServer-Timing: queue;dur=1\r\n\r\n" + PAGE) as address:
        seen = visit.visit(address, "a.localhost", PAGE)
    assert began < seen.at < time.perf_counter()
    assert seen.headers == {"server-timing": "queue;dur=1"}


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Sorry\r\n\r\n" + PAGE, b"HTTP/1.1 200 OK\r\n\r\nanother", b""])
def test_another_answer_is_an_error(answer: bytes) -> None:
    with server(answer) as address, pytest.raises(ValueError, match="instead of the page"):
        visit.visit(address, "a.localhost", PAGE)


def test_a_visit_where_nobody_listens_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "PATIENCE_S", 0.01)
    with pytest.raises(TimeoutError, match="nobody listens"):
        visit.visit(("127.0.0.1", theirs.free_port()), "a.localhost", PAGE)


def spawned(directory: Path, *command: str) -> Rival:
    (directory / "index.html").write_bytes(PAGE)
    address = (theirs.HOST, theirs.free_port())
    words = command or bundle.httpd(f"{theirs.HOST}:{address[1]}", str(directory))
    return Rival("spawn", "no isolation", words, address, PAGE, directory / "log")


def test_a_rival_serves_and_is_gone_afterwards(tmp_path: Path) -> None:
    rival = spawned(tmp_path)
    assert 0 < rival.launch_ms() < visit.PATIENCE_S * 1000
    assert not visit.is_open(rival.address)
    assert rival.why_not() == ""


def test_a_rival_that_is_not_installed_says_so(tmp_path: Path) -> None:
    assert spawned(tmp_path, "/nowhere/runc", "run").why_not() == "/nowhere/runc is not installed"


def test_a_rival_that_does_not_run_here_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "PATIENCE_S", 0.3)
    assert "unrecognized" in spawned(tmp_path, "/bin/ls", "--unheard-of").why_not()


def test_report_compares_medians() -> None:
    first = coldstart.FIRST_BYTE
    samples = {f"launch: {first}": [2.0, 4.0, 6.0], f"path: {first}": [10.0], f"runc: {first}": [40.0]}
    runc = Rival("runc", "some", (), ("", 0), b"", Path())
    found = coldstart.report(samples, [runc])
    assert found.ratios == {"launch_runc_over_ours": 10.0, "path_runc_over_ours": 4.0}
    assert [result.what for result in found.results][1:] == [f"path: {first}", f"runc: {first} (some)"]


def test_a_rival_that_is_missing_has_no_ratio() -> None:
    samples = {f"launch: {coldstart.FIRST_BYTE}": [2.0], f"path: {coldstart.FIRST_BYTE}": [10.0]}
    assert coldstart.report(samples, []).ratios == {}


@pytest.mark.system
def test_whole_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coldstart, "ROUNDS_QUICK", 1)
    found = coldstart.run(quick=True)
    assert set(found.ratios) >= {"launch_spawn_over_ours"}
    assert all(result.n == 1 for result in found.results)
    assert any(result.what == "launch: asked -> exec'd" for result in found.results)
    assert any(result.what.startswith("thaw: first byte") for result in found.results)
    assert any(result.what == "thaw: thaw" for result in found.results)


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    process = (
        subprocess.Popen(  # a shell ignores SIGINT for what it starts in the background, this run of the tests perhaps
            ["env", "--default-signal=INT", sys.executable, "-m", "bench", "coldstart"],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
    )
    assert process.stderr is not None
    with process.stderr:
        while (word := process.stderr.read(5)) and word != b"round":  # it measures
            pass
        process.send_signal(number)
        process.stderr.read()
    assert process.wait(20) != 0
    assert list(tmp_path.iterdir()) == []
