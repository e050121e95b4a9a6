"""Containers dumped and restored by the real CRIU, through the command line: state kept, identity new, walls as high."""

import json
import os
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from containerlib import process
from containerlib.standalone.places import Record
from tests.containerlib.conftest import Box, until

pytestmark = pytest.mark.system

# A counter in memory, random numbers that were seeded once, and a boot of two seconds.
APP = """\
import http.server, os, random, signal, socket, socketserver, sys, time
time.sleep(BOOT_S)
hits, told = 0, 0
random.seed(7)
def reseed(number, frame):
    global told
    told += 1
    random.seed(os.urandom(16))
signal.signal(signal.SIGUSR1, reseed)
open('/tmp/kept', 'w').write('from before')
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global hits
        hits += 1
        with open('/etc/hosts') as hosts:
            words = (str(hits), str(told), str(random.random()), socket.gethostname(), hosts.read().split()[-2],
                     open('/tmp/kept').read().replace(' ', '_'), open('/data/word').read())
        body = ' '.join(words).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        print('asked', flush=True)
class Server(socketserver.TCPServer):
    allow_reuse_address = True
Server(('0.0.0.0', 80), Handler).serve_forever()
"""
RANDOM_7 = [0.32383276483316237, 0.15084917392450192, 0.6509344730398537]


def define(box: Box, *, boot_s: float = 0.0, more: str = "") -> Path:
    data = box.directory / "data"
    data.mkdir(exist_ok=True)
    (data / "word").write_text("outside")
    (data / "app.py").write_text(APP.replace("BOOT_S", str(boot_s)))
    for path in (data, *data.iterdir()):
        path.chmod(0o755)
    return box.define(
        '    c.command("/usr/bin/python3", "-SIu", "/data/app.py")\n'
        f'    c.mount("{data}", "/data", readonly=True)\n'
        "    c.readiness(port=80)\n"
        '    c.cgroup.memory = "200M"\n    c.cgroup.pids = 50\n    c.cgroup.cpu = "100%"\n'
        '    c.checkpoint(signal="USR1")\n'
        '    c.stop(grace="1s")\n' + more
    )


def ask(record: Record, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://{record.address}{path}", timeout=10) as response:
        return str(response.read().decode())


def run(box: Box, *words: str | Path) -> Record:
    done = box.call(*words, timeout_s=60)
    assert done.returncode == 0, done.stdout + done.stderr + box.log()
    record = box.record()
    assert record is not None
    return record


def kill(box: Box) -> None:
    assert box.call("kill", "web").returncode == 0
    assert box.names() == []


def image(box: Box) -> Path:
    (found,) = (box.settings.state_dir / "checkpoints/web").iterdir()
    return found


def audit(box: Box) -> list[tuple[str, str, str]]:
    """Without numbers of processes and in no order of mounts, which differ."""
    found = json.loads(box.call("audit", "web", "--json").stdout)
    return sorted((each["severity"], each["what"], re.sub(r"\(\d+\)", "", each["found"])) for each in found)


def test_a_python_program_goes_on_as_somebody_else(box: Box) -> None:
    """Counter, file and random numbers go on where they were; address and host name are new, and it was told."""
    file = define(box)
    cold = run(box, "run", "-d", file)
    assert ask(cold).split()[:3] == ["1", "0", str(RANDOM_7[0])]
    walls = audit(box)
    ended = box.call("checkpoint", "web")
    assert ended.returncode == 0, ended.stderr
    until(lambda: box.names() == [])

    blocker = box.define('    c.command("sleep", "100")\n', "other")  # has the address that it had
    assert box.call("run", "-d", blocker).returncode == 0
    text = file.read_text()
    restored = run(box, "restore", "web")
    assert restored.restored, box.log()
    assert restored.address != cold.address
    until(lambda: ask(restored).split()[1] == "1", why="it was not told")
    hits, told, number, host, address, kept, word = ask(restored).split()
    assert int(hits) >= 3
    assert told == "1"
    assert float(number) not in RANDOM_7
    assert (host, kept, word) == ("web", "from_before", "outside")
    assert address == restored.address
    assert audit(box) == walls
    assert file.read_text() == text
    log = Path(restored.stdout)
    until(lambda: log.read_text().count("asked") >= 3)
    assert box.call("kill", "other", "web").returncode == 0
    assert box.names() == []


def test_left_running_it_goes_on_and_its_image_is_of_that_moment(box: Box) -> None:
    file = define(box)
    cold = run(box, "run", "-d", file)
    assert ask(cold).split()[0] == "1"
    taken = box.call("checkpoint", "web", "--leave-running", "--moment", "warmed")
    assert taken.returncode == 0, taken.stderr
    assert taken.stdout.split()[-1] == str(image(box))
    manifest = json.loads((image(box) / "manifest.json").read_text())
    assert (manifest["moment"], manifest["criu"][:2]) == ("warmed", "4.")
    assert [ask(cold).split()[0] for _ in range(3)] == ["2", "3", "4"]
    kill(box)
    for _ in range(2):  # as often as wanted
        restored = run(box, "restore", file)
        assert restored.restored, box.log()
        assert ask(restored).split()[0] == "2"
        kill(box)


def test_its_definition_has_an_image_taken_before_it_listens(box: Box) -> None:
    """At the first start, which goes on; those after it find one. What is restored is told before it serves anybody."""
    file = define(box)
    file.write_text(file.read_text().replace('signal="USR1"', 'signal="USR1", before="listen"'))
    for _ in range(2):
        assert ask(run(box, "run", "-d", file)).split()[:2] == ["1", "0"]
        first = image(box)
        kill(box)
        assert image(box) == first
    assert json.loads((first / "manifest.json").read_text())["moment"] == "halted"
    restored = run(box, "restore", "web")
    assert restored.restored, box.log()
    assert ask(restored).split()[:2] == ["1", "1"]
    kill(box)


def test_a_call_that_does_not_come_holds_nobody_up(box: Box) -> None:
    end = '    c.stop(grace="1s")\n    c.checkpoint(before='
    file = box.define(
        f'    c.command("sh", "-c", "trap exit TERM; sleep 100 & wait")\n    c.readiness(timeout="1s")\n{end}"listen")\n'
    )
    run(box, "run", "-d", file)
    assert "web: no image of it was taken: it did not come to listen within 1 s" in box.log()
    kill(box)
    file.write_text(file.read_text().replace('"listen"', '"lissten"'))
    refused = box.call("run", "-d", file)
    assert refused.returncode == 1
    assert "checkpoint.before: 'lissten' is no system call of this machine" in refused.stderr


def test_php_goes_on(box: Box) -> None:
    """Its own server, with opened files of /usr and a session of its own in /tmp."""
    site = box.directory / "site"
    site.mkdir()
    (site / "index.php").write_text(
        "<?php session_id('abc'); session_start(); $_SESSION['hits'] = ($_SESSION['hits'] ?? 0) + 1; "
        "echo $_SESSION['hits'], ' ', gethostname();"
    )
    for path in (site, site / "index.php"):
        path.chmod(0o755)
    file = box.define(
        '    c.command("php", "-d", "session.save_path=/tmp", "-S", "0.0.0.0:80", "-t", "/srv/www")\n'
        f'    c.mount("{site}", "/srv/www", readonly=True)\n    c.readiness(port=80)\n'
        '    c.checkpoint()\n    c.hostname = "www"\n    c.stop(grace="1s")\n'
    )
    cold = run(box, "run", "-d", file)
    assert [ask(cold) for _ in range(2)] == ["1 www", "2 www"]
    assert box.call("checkpoint", "web").returncode == 0
    until(lambda: box.names() == [])
    restored = run(box, "restore", "web")
    assert restored.restored, box.log()
    assert ask(restored) == "3 www"
    kill(box)


def test_a_long_boot_is_not_repeated(box: Box) -> None:
    """From the command to the first byte, all of Python's own start included: three times as fast at least."""
    file = define(box, boot_s=2.0)
    began = time.monotonic()
    ask(run(box, "run", "-d", file))
    cold_s = time.monotonic() - began
    assert box.call("checkpoint", "web").returncode == 0
    until(lambda: box.names() == [])
    began = time.monotonic()
    restored = run(box, "restore", file)
    ask(restored)
    restored_s = time.monotonic() - began
    kill(box)
    assert restored.restored, box.log()
    print(f"cold {cold_s:.2f} s, restored {restored_s:.2f} s")
    assert restored_s < cold_s - 1.5


def damage_memory(directory: Path) -> None:
    for path in directory.glob("pages-*.img"):
        os.truncate(path, 4096)


def damage_processes(directory: Path) -> None:
    for path in directory.glob("core-*.img"):
        path.write_bytes(b"x" * path.stat().st_size)


def damage_files(directory: Path) -> None:
    path = directory / "root.tar"
    path.write_bytes(b"x" * path.stat().st_size)


def damage_manifest(directory: Path) -> None:
    (directory / "manifest.json").write_text("{}")


def another_kernel(directory: Path) -> None:
    path = directory / "manifest.json"
    path.write_text(path.read_text().replace(os.uname().release, "5.0.0"))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damage_memory, r"is damaged"),
        (damage_processes, r"criu restore ended with 1: .+"),
        (damage_files, r"its files: ReadError"),
        (damage_manifest, r"holds no image that can be read"),
        (another_kernel, r"taken on kernel 5.0.0, here is"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_cannot_be_restored_starts_anew_and_says_why(box: Box, damage: Callable[[Path], None], why: str) -> None:
    file = define(box)
    assert ask(run(box, "run", "-d", file)).split()[0] == "1"
    assert box.call("checkpoint", "web").returncode == 0
    until(lambda: box.names() == [])
    damage(image(box))
    anew = run(box, "restore", file)
    assert not anew.restored
    assert ask(anew).split()[0] == "1"
    assert re.search(rf"web: .*{why}.*; it starts anew instead", box.log()), box.log()
    kill(box)


def test_hooks_are_told(box: Box) -> None:
    told = "".join(
        f"    @c.hook(Phase.{phase})\n    def {phase.lower()}(container):\n"
        f"        print('{phase}', container.address, flush=True)\n"
        for phase in ("BEFORE_RESTORE", "AFTER_RESTORE", "AFTER_START", "READY")
    )
    inside = (
        "    @c.hook(Phase.AFTER_RESTORE, side=Side.CONTAINER)\n"
        "    def connect(container):\n        print('inside', os.uname().nodename, os.getuid(), flush=True)\n"
    )
    file = define(box, more=told + inside)
    run(box, "run", "-d", file)
    assert box.call("checkpoint", "web").returncode == 0
    until(lambda: box.names() == [])
    log = box.settings.log_dir / "web.log"
    log.write_text("")
    restored = run(box, "restore", file)
    assert restored.restored
    until(lambda: "READY" in log.read_text())
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [words[0] for words in lines] == ["BEFORE_RESTORE", "AFTER_RESTORE", "inside", "AFTER_START", "READY"]
    assert (lines[1][1], lines[2][1:]) == (restored.address, ["web", "0"])
    kill(box)


def test_what_was_not_started_for_it_is_not_dumped(box: Box) -> None:
    run(box, "run", "-d", box.define('    c.command("sleep", "100")\n    c.stop(grace="1s")\n'))
    refused = box.call("checkpoint", "web")
    assert refused.returncode == 1
    assert "its definition needs c.checkpoint()" in refused.stderr
    kill(box)


def test_what_an_image_could_not_hold_is_refused_at_the_start(box: Box) -> None:
    file = define(box, more='    c.bootstrap.image("php")\n')
    done = box.call("run", file)
    assert done.returncode == 1
    assert "not possible together with checkpoint: bootstrap.image" in done.stderr


# What it may, and what is where, as it finds it itself.
LIMITED = """\
import errno, http.server, json, os, resource, signal
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
open('/cache/kept', 'w').write('from before')
def attempt(function, *arguments):
    try:
        return function(*arguments) or 'done'
    except OSError as error:
        return errno.errorcode[error.errno]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = dict(line.split(':\\t') for line in open('/proc/self/status').read().splitlines())
        cache = os.statvfs('/cache')
        body = json.dumps({
            'cache': open('/cache/kept').read(), 'mode': oct(os.stat('/cache').st_mode), 'size': cache.f_blocks * cache.f_bsize,
            'masked': open('/data/secret').read(), 'hidden': os.listdir('/srv'), 'readonly': attempt(os.mkdir, '/var/x'),
            'library': attempt(os.mkdir, '/usr/lib/x'), 'symlink': attempt(os.symlink, 'x', '/tmp/x'),
            'chown': attempt(os.chown, '/cache/kept', 0, 0), 'capabilities': status['CapBnd'] + status['CapEff'],
            'files': resource.getrlimit(resource.RLIMIT_NOFILE),
        }).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
http.server.HTTPServer(('0.0.0.0', 80), Handler).serve_forever()
"""


def test_what_it_may_and_sees_is_the_same_when_it_is_restored(box: Box) -> None:
    """Mounts over its files, capabilities, limits and a list of system calls of its own."""
    file = define(
        box,
        more='    c.tmpfs("/cache", size="8M")\n    c.mask("/data/secret", "/srv")\n    c.readonly("/var", "/usr/lib")\n'
        '    c.capabilities.allow("chown")\n    c.rlimit("nofile", 100, 200)\n    c.seccomp(deny=("symlink", "symlinkat"))\n',
    )
    (box.directory / "data/app.py").write_text(LIMITED)
    (box.directory / "data/secret").write_text("not to be seen")
    found = json.loads(ask(run(box, "run", "-d", file)))
    walls = audit(box)
    assert found == {
        "cache": "from before", "mode": "0o41777", "size": 8 << 20, "masked": "", "hidden": [], "readonly": "EROFS",
        "library": "EROFS", "symlink": "EPERM", "chown": "done", "capabilities": "00000000000000010000000000000001",
        "files": [100, 200],
    }  # fmt: skip
    assert box.call("checkpoint", "web").returncode == 0
    until(lambda: box.names() == [])
    restored = run(box, "restore", "web")
    assert restored.restored, box.log()
    assert json.loads(ask(restored)) == found
    assert audit(box) == walls
    kill(box)


def test_a_dump_that_fails_leaves_it_running_and_nothing_half_made(box: Box, tmp_path: Path) -> None:
    """A CRIU that stops the processes and then gives up."""
    file = define(box)
    fake = tmp_path / "criu"
    fake.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo Version: 4.2.1 && exit\n"
        "while [ $# -gt 0 ]; do case $1 in --tree) kill -STOP $2;; --images-dir) d=$2;; esac; shift; done\n"
        "echo '(0.1) Error (criu/x.c:1): no such luck' >$d/dump.log; exit 1\n"
    )
    fake.chmod(0o755)
    os.environ["FASTCONTAINER_CRIU"] = str(fake)
    try:
        record = run(box, "run", "-d", file)
    finally:
        del os.environ["FASTCONTAINER_CRIU"]
    refused = box.call("checkpoint", "web")
    assert refused.returncode == 1
    assert "criu dump ended with 1: no such luck" in refused.stderr
    assert ask(record).split()[0] == "1"
    assert list((box.settings.state_dir / "checkpoints/web").iterdir()) == []
    kill(box)


def test_a_restore_that_hangs_is_given_up_and_nothing_of_it_is_left(box: Box, tmp_path: Path) -> None:
    file = define(box)
    run(box, "run", "-d", file)
    assert box.call("checkpoint", "web").returncode == 0
    until(lambda: box.names() == [])
    fake, pids = tmp_path / "criu", tmp_path / "pids"
    fake.write_text(
        f"#!/bin/sh\n[ $1 = --version ] && echo Version: 4.2.1 && exit\nsleep 1000 & echo $! $$ >{pids}; wait\n"
    )
    fake.chmod(0o755)
    os.environ["FASTCONTAINER_CRIU"] = str(fake)
    try:
        anew = run(box, "restore", file)
    finally:
        del os.environ["FASTCONTAINER_CRIU"]
    assert not anew.restored
    for pid in map(int, pids.read_text().split()):
        until(lambda pid=pid: process.start_time(pid) is None)
    assert ask(anew).split()[0] == "1"
    kill(box)
