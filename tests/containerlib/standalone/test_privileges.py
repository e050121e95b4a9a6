"""What a definition may have beyond nothing, and what it may do then."""

import errno
import json
import signal
import subprocess
import sys
import urllib.request

import pytest

from containerlib.spec.seccomp import DANGEROUS
from containerlib.spec.security import ALLOWED, capability_mask
from tests.containerlib.conftest import Box

pytestmark = pytest.mark.system
SHOW = (
    "    c.command('sh', '-c', 'id -u; grep ^Cap /proc/self/status; cd /tmp; touch x; chown 33 x 2>&1; stat -c %u x')\n"
)
APACHE = """
ServerName web
Listen 80
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
StartServers 2
User www-data
Group www-data
PidFile /run/apache.pid
Mutex file:/run
ErrorLog /dev/stderr
DocumentRoot /srv
<Directory /srv>
    Require all granted
</Directory>
"""


def sets(output: str) -> dict[str, int]:
    lines = (line.split(":") for line in output.splitlines() if line.startswith("Cap"))
    return {name: int(mask, 16) for name, mask in lines}


def test_root_inside_has_what_was_allowed_and_nothing_else(box: Box) -> None:
    body = "    c.user('root')\n    c.capabilities.allow('chown', 'CAP_KILL')\n" + SHOW
    done = box.call("run", box.define(body))
    mask = capability_mask(("chown", "kill"))
    expected = {"CapInh": 0, "CapPrm": mask, "CapEff": mask, "CapBnd": mask, "CapAmb": 0}
    assert sets(done.stdout) == expected, done.stderr
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("0", "33")


def test_root_inside_without_any_is_root_by_name(box: Box) -> None:
    done = box.call("run", box.define("    c.user('root')\n" + SHOW))
    assert set(sets(done.stdout).values()) == {0}
    assert done.stdout.splitlines()[-2:] == ["chown: changing ownership of 'x': Operation not permitted", "0"]


def test_somebody_else_has_them_over_exec_too(box: Box) -> None:
    done = box.call("run", box.define("    c.capabilities.allow('chown')\n" + SHOW))
    assert set(sets(done.stdout).values()) == {capability_mask(("chown",))}, done.stderr
    assert done.stdout.splitlines()[-1] == "33"


@pytest.mark.parametrize("init", [True, False])
def test_apache_binds_its_port_as_root_and_serves_as_somebody_else(box: Box, init: bool) -> None:
    content = box.directory / "content"
    content.mkdir()
    (content / "index.html").write_text("hello")
    (box.directory / "apache.conf").write_text(APACHE)
    body = (
        "    c.command('apache2', '-D', 'FOREGROUND', '-f', '/run/apache.conf')\n    c.readiness(port=80)\n"
        f"    c.user('root')\n    c.init = {init}\n    c.stop(grace='5s')\n"
        "    c.capabilities.allow('setuid', 'setgid', 'net_bind_service', 'kill')\n"
        f"    c.mount({str(content)!r}, '/srv', readonly=True)\n"
        f"    c.mount({str(box.directory / 'apache.conf')!r}, '/run/apache.conf', readonly=True)\n"
    )
    process = box.start("run", box.define(body))
    record = box.until_running()
    with urllib.request.urlopen(f"http://{record.address}/", timeout=10) as answer:
        assert answer.read() == b"hello"
    users = subprocess.run(
        [sys.executable, "-m", "containerlib", "attach", "web", "--", "sh", "-c", "stat -c '%n %u' /proc/[0-9]*"],
        env=box.environment, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip
    assert {"0", "33"} <= {line.split()[1] for line in users.splitlines()}
    found = box.call("audit", "web").stdout
    assert "kill setgid setuid net_bind_service" in found
    assert "high" not in found
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)


def test_all_that_may_be_had_are_had(box: Box) -> None:
    words = ", ".join(map(repr, ALLOWED))
    done = box.call("run", box.define(f"    c.user('root')\n    c.capabilities.allow({words})\n" + SHOW))
    assert sets(done.stdout)["CapEff"] == capability_mask(ALLOWED), done.stderr


CHMODS = "    c.command('sh', '-c', 'touch /tmp/x; chmod 600 /tmp/x; grep Seccomp /proc/self/status')\n"


@pytest.mark.parametrize("init", [True, False])
def test_a_list_of_system_calls_of_its_own_holds(box: Box, init: bool) -> None:
    body = f"    c.init = {init}\n{CHMODS}"
    assert "not permitted" not in box.call("run", box.define(body)).stderr
    done = box.call("run", box.define(body + "    c.seccomp(deny=['chmod', 'fchmod', 'fchmodat', 'fchmodat2'])\n"))
    assert "chmod: changing permissions of '/tmp/x': Operation not permitted" in done.stderr
    assert "Seccomp_filters:\t1" in done.stdout


def test_what_everybody_is_refused_can_be_had_by_its_name(box: Box) -> None:
    """A key of the kernel's, which `allow` would refuse."""
    program = "import ctypes; print(ctypes.CDLL(None).syscall(250, 0, -1, 1) > 0)"  # KEYCTL_GET_KEYRING_ID of a thread
    body = f"    c.command('/usr/bin/python3', '-SIc', {program!r})\n"
    assert box.call("run", box.define(body)).stdout == "False\n"
    assert box.call("run", box.define(body + "    c.seccomp(dangerous=['keyctl'])\n")).stdout == "True\n"


def test_a_profile_of_a_file(box: Box) -> None:
    path = box.directory / "profile.json"
    rules = [{"names": [*sorted(DANGEROUS)], "action": "SCMP_ACT_ERRNO"}]
    chmods = {
        "names": ["chmod", "fchmod", "fchmodat", "fchmodat2"],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": errno.EXDEV,
    }
    clone = {"names": ["clone"], "action": "SCMP_ACT_ALLOW"}
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [*rules, chmods]}))
    body = f"{CHMODS}    c.seccomp({str(path)!r}, dangerous=['clone'])\n"
    assert "Invalid cross-device link" in box.call("run", box.define(body)).stderr
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [clone]}))
    done = box.call("run", box.define(f"{CHMODS}    c.seccomp({str(path)!r})\n"))
    assert (done.returncode, "'clone' is dangerous" in done.stderr) == (1, True)
    path.unlink()
    done = box.call("run", box.define(f"{CHMODS}    c.seccomp({str(path)!r})\n"))
    assert (done.returncode, "its list of system calls cannot be had: " in done.stderr) == (1, True)
