"""The life of one container, by a runner of its own."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from containerlib.standalone.runner import to_stderr
from tests.containerlib.conftest import HTTPD, SLEEP, Box, until

pytestmark = pytest.mark.system
TELL = "    def tell(container, what=None):\n        print(what or container.cause, container.pid, flush=True)\n"


def hooks(*phases: str, body: str = "print(PHASE, container.exit_status, container.failure, flush=True)") -> str:
    lines = []
    for number, phase in enumerate(phases):
        text = body.replace("PHASE", repr(phase))
        lines.append(f"    @c.hook({phase!r})\n    def h{number}(container):\n        {text}\n")
    return "".join(lines)


PHASES = (
    "setup", "before_fork", "after_fork_host", "after_fork", "after_network_created", "after_network_ready",
    "before_root", "after_root", "after_start", "ready", "before_stop", "teardown_container", "teardown",
)  # fmt: skip
STARTING = PHASES[:9]


def test_a_life_comes_by_every_phase_in_its_order(box: Box) -> None:
    file = box.define(HTTPD + hooks(*PHASES))
    process = box.start("run", file)
    record = box.until_running()
    with socket.create_connection((record.address, 80), timeout=5):
        pass
    process.terminate()
    out, _ = process.communicate(timeout=20)
    assert [line.split()[0] for line in out.splitlines()] == list(PHASES)
    assert out.splitlines()[-1].split()[1] == "143"  # as its program ended
    assert process.returncode == 143
    assert box.names() == []


@pytest.mark.parametrize("phase", STARTING)
def test_a_hook_that_fails_ends_the_start_and_nothing_is_left(box: Box, phase: str) -> None:
    failing = hooks(phase, body="raise ValueError('no')")
    done = box.call("run", box.define(HTTPD + failing + hooks("after_failure", "teardown")))
    assert done.returncode == 1
    assert f"hook h0 in phase {phase}: ValueError: no (" in done.stderr.splitlines()[-1]
    assert "web.py:" in done.stderr
    told = [line.split()[0] for line in done.stdout.splitlines()]
    assert told == ["after_failure", "teardown"]
    assert box.names() == []


def test_a_hook_that_may_fail_is_told_and_the_life_goes_on(box: Box) -> None:
    failing = "    @c.hook(Phase.SETUP, on_failure='report')\n    def bad(container):\n        raise ValueError('no')\n"
    done = box.call("run", box.define('    c.command("true")\n' + failing))
    assert done.returncode == 0
    assert "web: hook bad in phase setup: ValueError: no" in done.stderr


def test_sides(box: Box) -> None:
    """The host's sees the host; the container's sees its files, its name, its processes, and is not the host's root."""
    body = HTTPD + (
        "    c.hostname = 'inside'\n"
        "    @c.hook(Phase.READY)\n"
        "    def host(container):\n"
        "        print('host', os.path.exists('/etc/shadow'), flush=True)\n"
        "    @c.hook(Phase.READY, side=Side.CONTAINER)\n"
        "    def inner(container):\n"
        "        maps = open('/proc/self/uid_map').read().split()\n"
        "        print('inner', os.uname().nodename, os.getuid(), maps[0], os.path.exists('/etc/shadow'), flush=True)\n"
    )
    process = box.start("run", box.define(body))
    assert process.stdout is not None
    told = [process.stdout.readline().split() for _ in range(2)]
    process.terminate()
    process.communicate(timeout=20)
    assert told[0] == ["host", "True"]
    assert told[1] == ["inner", "inside", "0", "1000", "False"]


def test_timers_count_from_readiness_and_end_with_their_limit(box: Box) -> None:
    ticks = '    @c.every("0.1s", limit=3)\n    def tick(container):\n        print("tick", flush=True)\n'
    once = '    @c.after("0.6s")\n    def last(container):\n        print("last", flush=True)\n'
    process = box.start("run", box.define(HTTPD + ticks + once + hooks("ready", body="print(PHASE, flush=True)")))
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(5)]
    process.terminate()
    rest, _ = process.communicate(timeout=20)
    assert lines == ["ready", "tick", "tick", "tick", "last"]
    assert "tick" not in rest


def test_its_lifespan_ends_it(box: Box) -> None:
    began = time.monotonic()
    done = box.call("run", box.define(HTTPD + '    c.lifespan("1.5s")\n'))
    assert 1.5 <= time.monotonic() - began < 15
    assert (done.returncode, done.stderr) == (143, "web: its lifespan is over\n")


def test_its_bandwidth_holds_each_way_and_changes_on_reload(box: Box) -> None:
    """A megabyte at a megabyte a second, to it and back."""
    program = (
        "import socket\n"
        "server = socket.create_server(('', 80))\n"
        "while True:\n"
        "    peer = server.accept()[0]\n"
        "    got = b''.join(iter(lambda: peer.recv(65536), b''))\n"
        "    peer.sendall(got)\n"
        "    peer.close()\n"
    )
    body = f"    c.command('/usr/bin/python3', '-SIc', {program!r})\n    c.readiness(port=80)\n    c.stop(grace=0)\n"
    file = box.define(body + "    c.network.bandwidth = '8Mbit'\n")
    box.start("run", file)
    record = box.until_running()
    assert all(0.6 < each < 4 for each in _to_and_fro(record.address))
    box.define(body)
    assert "applied: network" in box.call("reload", "web").stdout
    assert max(_to_and_fro(record.address)) < 0.6


def _to_and_fro(address: str) -> tuple[float, float]:
    with socket.create_connection((address, 80), timeout=10) as peer:
        began = time.monotonic()
        peer.sendall(bytes(1 << 20))
        peer.shutdown(socket.SHUT_WR)
        first = peer.recv(1)
        turned, left = time.monotonic(), (1 << 20) - len(first)
        while left:
            left -= len(peer.recv(65536))
        return turned - began, time.monotonic() - turned


def test_what_a_definition_says_of_its_files_and_limits_is_so(box: Box) -> None:
    (box.directory / "data").mkdir()
    (box.directory / "data/hello").write_text("hi")
    script = (
        "cat /srv/hello; stat -f -c %b /cache; stat -c %a /cache; cat /proc/version /etc/hostname | wc -c; "
        "touch /srv/x 2>&1 | cut -c1-40; ulimit -n; id -u; id -g; echo $A; pwd; echo oops >&2"
    )
    body = (
        f"    c.command('sh', '-c', {script!r})\n"
        f"    c.mount({str(box.directory / 'data')!r}, '/srv', readonly=True)\n"
        "    c.tmpfs('/cache', size='1M', mode=0o700)\n    c.mask('/proc/version')\n    c.rlimit('nofile', 77)\n"
        "    c.user(5, group=6)\n    c.env['A'] = 'b'\n    c.workdir = '/tmp'\n"
    )
    done = box.call("run", box.define(body))
    lines = done.stdout.split("\n")
    assert lines[0] == "hi256"
    assert lines[1:] == ["700", "4", "touch: cannot touch '/srv/x': Read-only ", "77", "5", "6", "b", "/tmp", ""]
    assert (done.returncode, done.stderr) == (0, "oops\n")


def test_limits_of_its_group(box: Box) -> None:
    body = SLEEP + (
        "    c.cgroup.memory = '64M'\n    c.cgroup.pids = 20\n"
        "    c.cgroup.v1['cpu.shares'] = 333\n    c.cgroup.v2['cpu.weight'] = 33\n"
    )
    process = box.start("run", box.define(body))
    record = box.until_running()
    values = {}
    for directory in record.cgroups:
        for name in ("cpu.shares", "cpu.weight", "pids.max", "memory.limit_in_bytes", "memory.max"):
            if (path := Path(directory, name)).exists():
                values[name] = path.read_text().strip()
    assert values["pids.max"] == "20"
    assert values.get("memory.limit_in_bytes", values.get("memory.max")) == str(64 << 20)
    assert (values.get("cpu.shares"), values.get("cpu.weight")) in (("333", None), (None, "33"))
    process.terminate()
    process.wait(20)


def test_the_stop_signal_of_its_definition(box: Box) -> None:
    script = 'trap "echo quit; exit 5" QUIT; sleep 60 & echo up; wait'
    body = f"    c.command('sh', '-c', {script!r})\n    c.stop(signal='QUIT', grace='10s')\n"
    process = box.start("run", box.define(body))
    box.until_running()
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.terminate()
    out, _ = process.communicate(timeout=20)
    assert (out.splitlines()[-1], process.returncode) == ("quit", 5)


def test_who_does_not_stop_is_killed_after_its_grace_and_at_once_when_asked_twice(box: Box) -> None:
    script = 'trap "" TERM; trap "echo no" INT; echo up; while true; do sleep 0.05; done'
    body = f"    c.command('sh', '-c', {script!r})\n    c.stop(signal='INT', grace='60s')\n"
    process = box.start("run", box.define(body))
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    box.until_running()
    process.terminate()
    assert process.stdout.readline() == "no\n"
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 137


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("    c.command('no-such-program')\n", 1, "command 'no-such-program' is not in the container's PATH"),
        ("    c.command('sh', '-c', 'exit 9')\n", 9, "web: it exited with code 9"),
        ("    c.command('true')\n    c.mount('/no/such', '/srv')\n", 1, "mount source '/no/such' does not exist"),
        ("    c.command('true')\n    c.readiness(port=80)\n", 1, "web: it ended before it was ready"),
        ("    c.command('sleep', '9')\n    c.readiness(port=80, timeout='0.3s')\n", 1, "not listen on port 80 within 0.3 s"),
        (HTTPD.replace('"80"', '"81"') + "    c.readiness(port=80, timeout='0.5s')\n", 1, "on port 81, not on port 80"),
        ("    c.command('true')\n    c.user('mysql')\n", 1, "user: 'mysql' is none of root, app, www-data"),
        ("    c.command('true')\n    c.cgroup.v1['cpu.x'] = 1\n    c.cgroup.v2['cpu.x'] = 1\n", 1, "a setting of its cgroup"),
        ("    c.command('true')\n    c.bootstrap.image('php')\n", 1, "fastcontainer container create"),
        ("    c.command('true')\n    c.apparmor('web')\n", 1, "AppArmor profile 'web' "),
        ("    c.command('true')\n    c.network.address = '100.1.1.1'\n", 4, "is the first, second or last of 16"),
        ("    c.command('true')\n    c.tmpfs('/usr/x')\n", 1, "Read-only file system"),
    ],
)  # fmt: skip
def test_why_it_does_not_run_is_told_and_nothing_is_left(box: Box, body: str, code: int, words: str) -> None:
    done = box.call("run", box.define(body))
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == code
    assert box.names() == []


def test_memory_it_may_not_have(box: Box) -> None:
    eats = "/usr/bin/python3"
    body = (
        f"    c.command({eats!r}, '-SIc', 'import time; time.sleep(0.3); x = bytearray(200 << 20)')\n    c.cgroup.memory = '32M'\n"
        "    @c.on_oom()\n    def oom(container):\n        print('told of', container.cause, flush=True)\n"
    )
    done = box.call("run", box.define(body))
    assert "told of oom" in done.stdout
    assert "it used more memory than its limit, and the kernel killed it" in done.stderr


def test_signals_are_for_the_definitions_handlers(box: Box) -> None:
    handler = (
        "    @c.on_signal('USR1')\n    def poke(container):\n        print('poked', container.cause, flush=True)\n"
    )
    process = box.start("run", box.define(HTTPD + handler))
    record = box.until_running()
    os.kill(record.runner, signal.SIGUSR1)
    os.kill(record.runner, signal.SIGUSR2)
    assert process.stdout is not None
    assert process.stdout.readline() == "poked USR1\n"
    process.terminate()
    process.communicate(timeout=20)


def test_reload_applies_what_it_can_and_says_the_rest(box: Box) -> None:
    file = box.define(HTTPD + "    c.cgroup.pids = 50\n" + hooks("after_reload", body="print('old', flush=True)"))
    process = box.start("run", file)
    record = box.until_running()
    box.define(
        HTTPD
        + "    c.cgroup.pids = 60\n    c.env['A'] = '1'\n"
        + hooks("after_reload", body="print('new', flush=True)")
    )
    os.kill(record.runner, signal.SIGHUP)
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(2)]
    assert told == ["new", "web: applied: cgroup, hooks; from its next start: env"]
    assert "60\n" in [path.read_text() for each in record.cgroups if (path := Path(each, "pids.max")).exists()]
    file.write_text("broken(")
    os.kill(record.runner, signal.SIGHUP)
    assert "SyntaxError" in process.stdout.readline()
    assert Path(f"/proc/{record.pid}").exists()
    process.terminate()
    process.communicate(timeout=20)


def test_stopped_while_it_starts(box: Box) -> None:
    body = "    c.command('sleep', '100')\n    c.readiness(port=80)\n    c.stop(grace='0.5s')\n"
    process = box.start("run", box.define(body + hooks("after_start", body="print('up', flush=True)")))
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.terminate()
    process.communicate(timeout=20)
    until(lambda: box.names() == [])


def test_a_hook_of_the_container_that_hangs_is_killed_there(box: Box) -> None:
    hangs = "    @c.hook(Phase.AFTER_ROOT, timeout='0.5s')\n    def hangs(container):\n        time.sleep(100)\n"
    done = box.call("run", box.define(HTTPD + hangs))
    assert "hook hangs in phase after_root: it took longer than its time limit and was killed" in done.stderr
    assert box.names() == []


def test_what_fails_that_is_not_its_own_is_told_as_that(box: Box) -> None:
    """A host without what the definition needs of it."""
    body = HTTPD + "    c.cgroup.v1['nonsense.x'] = 1\n    c.cgroup.v2['nonsense.x'] = 1\n"
    done = box.call("run", box.define(body + hooks("system_failure", "after_failure")))
    assert done.returncode == 1
    assert "this host cannot run it" in done.stderr and "nonsense" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["system_failure"]
    assert box.names() == []


REACH = """
import socket
me = socket.gethostbyname(socket.gethostname()).rsplit(".", 1)
connection = socket.socket()
connection.settimeout(2)
print(connection.connect_ex((f"{me[0]}.{int(me[1]) - 1}", PORT)))
"""


def test_a_service_of_the_host_that_was_allowed_and_one_that_was_not(box: Box) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        body = f"    c.command('/usr/bin/python3', '-SIc', {REACH.replace('PORT', str(port))!r})\n"
        refused = box.call("run", box.define(body))
        allowed = box.call("run", box.define(body + f"    c.network.allow_host_service({port})\n"))
    assert (refused.returncode, allowed.returncode) == (0, 0)
    assert allowed.stdout == "0\n"
    assert refused.stdout not in ("", "0\n")


def test_a_log_without_room_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", full)
        to_stderr("its lifespan is over")
        with open("/dev/null", "w") as nowhere:  # for what is in its buffer still
            os.dup2(nowhere.fileno(), full.fileno())
