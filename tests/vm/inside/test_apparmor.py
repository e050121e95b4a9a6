"""A profile of AppArmor, which this kernel has and many hosts have not."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.containerlib.conftest import Box
from tests.plugins.compute import Host, until
from tests.system.test_definitions import blog, define

pytestmark = pytest.mark.system
NAME = "fastcontainer-test"
PROFILE = f"""
profile {NAME} flags=(attach_disconnected) {{
  file,
  network,
  signal,
  unix,
  deny /tmp/secret r,
}}
"""
BODY = "    c.command('sh', '-c', 'cat /proc/self/attr/current /proc/1/attr/current; echo hi >/tmp/secret && cat /tmp/secret')\n"


def parser(option: str) -> None:
    subprocess.run(
        ["/usr/sbin/apparmor_parser", option, "--skip-cache"], input=PROFILE, text=True, check=True, timeout=100
    )


@pytest.fixture(scope="module")
def profile() -> Iterator[str]:
    parser("--add")
    yield NAME
    parser("--remove")


def test_without_one_nothing_is_confined(box: Box) -> None:
    done = box.call("run", box.define(BODY))
    assert done.stdout.split() == ["unconfined", "unconfined", "hi"], done.stderr


@pytest.mark.parametrize("init", [True, False])
def test_a_profile_holds_what_it_forbids(box: Box, profile: str, init: bool) -> None:
    done = box.call("run", box.define(f"{BODY}    c.init = {init}\n    c.apparmor({profile!r})\n"))
    assert done.stdout.split() == [profile, "(enforce)"] * 2, done.stderr
    assert "cat: /tmp/secret: Permission denied" in done.stderr
    assert done.returncode == 1


def test_one_that_is_not_loaded_is_refused(box: Box) -> None:
    done = box.call("run", box.define(f"{BODY}    c.apparmor('no-such')\n"))
    assert "AppArmor profile 'no-such' is none that the kernel has loaded" in done.stderr
    assert (done.returncode, done.stdout) == (1, "")


async def test_an_app_by_a_definition_is_confined(host: Host, profile: str) -> None:
    shows = "cat /proc/self/attr/current /proc/1/attr/current; echo hi >/tmp/secret; cat /tmp/secret; exec busybox httpd -f -p 80"
    define(host, f"    c.command('sh', '-c', {shows!r})\n    c.readiness(80)\n    c.apparmor({profile!r})\n")
    await blog(host)
    await host.wake("blog")
    await until(lambda: any("/tmp/secret" in line for line in host.lines("blog")), why=str(host.lines("blog")))
    lines = host.lines("blog")
    assert lines[:2] == [f"out {profile} (enforce)"] * 2
    assert "err cat: /tmp/secret: Permission denied" in lines and "out hi" not in lines
