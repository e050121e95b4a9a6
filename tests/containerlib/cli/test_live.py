"""container run | attach | audit | kill | reload | list"""

import json
import os
import signal
from pathlib import Path

import pytest

from containerlib.standalone.places import is_held
from tests.containerlib.conftest import HTTPD, Box, until

pytestmark = pytest.mark.system
ENDS = HTTPD + '    c.cgroup.pids = 50\n    c.workdir = "/srv"\n    c.env["A"] = "b"\n'


def test_from_run_to_kill(box: Box) -> None:
    file = box.define(ENDS)
    assert box.call("run", "-d", file).stdout.startswith("running: web at ")
    again = box.call("run", "-d", file)
    assert (again.returncode, again.stderr) == (4, "container: web runs already\n")

    header, row = box.call("list").stdout.splitlines()
    assert header.split() == ["NAME", "STATUS", "PID", "ADDRESS", "AGE", "RUNNER", "IMAGE", "DEFINITION"]
    assert row.split()[:2] == ["web", "running"]
    (listed,) = json.loads(box.call("list", "--json").stdout)
    assert (listed["name"], listed["status"], listed["source"]) == ("web", "running", f"{file}:3")

    inside = box.call("attach", "web", "--", "sh", "-c", "id -u; pwd; echo $A; hostname; ulimit -n; exit 5")
    assert (inside.returncode, inside.stdout.split()) == (5, ["1000", "/srv", "b", "web", "1024"])

    box.define(ENDS.replace("= 50", "= 60"))
    assert box.call("reload", "web").stdout == "web: applied: cgroup\n"

    assert box.call("kill", "web").stdout == "stopped: web\n"
    assert len(box.call("list").stdout.splitlines()) == 1
    assert box.names() == []


AS_ROOT = HTTPD + '    c.user("root", group="nogroup")\n    c.workdir = "/srv"\n    c.env["A"] = "b"\n'


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ["0", "65534", "/srv", "b"]),  # as its program
        (("--user", "app"), ["1000", "1000", "/srv", "b"]),
        (("-u", "33:0"), ["33", "0", "/srv", "b"]),
    ],
)
def test_who_looks_inside_is_whom_its_program_is(box: Box, words: tuple[str, ...], expected: list[str]) -> None:
    box.call("run", "-d", box.define(AS_ROOT))
    inside = box.call(
        "attach", "web", *words, "--", "sh", "-c", "id -u; id -g; pwd; echo $A; grep CapEff /proc/self/status"
    )
    *found, _, capabilities = inside.stdout.split()
    assert (found, int(capabilities, 16)) == (expected, 0), inside


@pytest.mark.parametrize(
    ("user", "message"),
    [("stranger", "user: 'stranger' is none of root, app, www-data, nobody"), ("5000", "user: 5000")],
)
def test_a_user_whom_the_container_has_not(box: Box, user: str, message: str) -> None:
    box.call("run", "-d", box.define(HTTPD))
    done = box.call("attach", "web", "--user", user, "--", "true")
    assert (done.returncode, message in done.stderr) == (2, True), done


def test_what_it_could_do(box: Box) -> None:
    box.call("run", "-d", box.define(ENDS))
    found = json.loads(box.call("audit", "web", "--json").stdout)
    assert {each["what"] for each in found} == {"no limit of memory", "no limit of cpu", "listens"}
    assert box.call("audit", "web").stdout.splitlines()[0].split() == ["SEVERITY", "WHAT", "FOUND", "REMEDY"]
    assert box.call("kill", "web").returncode == 0
    gone = box.call("audit", "web")
    assert (gone.returncode, gone.stderr.splitlines()[0]) == (3, "container: no container 'web' runs here")


def test_a_command_instead_of_the_definitions(box: Box) -> None:
    done = box.call("run", box.define('    c.command("false")\n'), "--", "sh", "-c", "echo instead -- of it; exit 3")
    assert (done.stdout, done.returncode) == ("instead -- of it\n", 3)


def test_several_of_one_file(box: Box) -> None:
    file = box.define(ENDS, head='@define("api")\ndef api(c):\n    c.command("sleep", "100")\n    c.stop(grace="1s")\n')
    assert box.call("run", file).stderr.splitlines()[0] == "container: one at a time: api, web"
    started = json.loads(box.call("run", "-d", "--json", file).stdout)
    assert [each["name"] for each in started] == ["api", "web"]
    assert started[0]["network"] != started[1]["network"]
    assert box.call("kill", "api", "web").stdout == "stopped: api\nstopped: web\n"


def test_what_a_dead_runner_left_is_listed_and_can_be_killed(box: Box) -> None:
    box.call("run", "-d", box.define(ENDS))
    record = box.record()
    assert record is not None
    os.kill(record.runner, signal.SIGKILL)
    until(lambda: not is_held(box.settings, "web"))
    assert json.loads(box.call("list", "--json").stdout)[0]["status"] == "abandoned"
    assert "does not answer" in box.call("reload", "web").stderr
    assert box.call("kill", "web").returncode == 0
    until(lambda: not Path(f"/proc/{record.pid}").exists())


@pytest.mark.parametrize("verb", ["attach", "kill", "reload"])
@pytest.mark.parametrize("name", ["nobody", "../../etc"])
def test_nobody_of_that_name(box: Box, verb: str, name: str) -> None:
    done = box.call(verb, name)
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, f"container: no container {name!r} runs here")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--signal", "NEVER"), "signal: 'NEVER' is not a signal such as TERM"),
        (("--grace", "long"), "'long' is not a length of time"),
    ],
)
def test_a_wrong_word_kills_nobody(box: Box, words: tuple[str, ...], message: str) -> None:
    done = box.call("kill", "web", *words)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_start_that_fails_is_an_exit_code_and_a_sentence(box: Box) -> None:
    done = box.call("run", "-d", box.define('    c.command("no-such-program")\n'))
    assert (done.returncode, "web: command 'no-such-program' is not in the container's PATH" in done.stderr) == (
        1,
        True,
    )
