"""container create | provision | revisions | archive | prune"""

import json
import os
import shutil
import signal
import tarfile

import pytest

from containerlib.standalone.places import wait_until_free
from tests.containerlib.conftest import Box

pytestmark = pytest.mark.system
HEAD = """
from pathlib import Path
from containerlib.bootstrap.directory import Directory
from containerlib.images import Template
"""


def body(box: Box, *steps: str) -> str:
    words = "".join(f", {step}" for step in steps)
    return f'    c.command("x")\n    c.bootstrap.image("site", Directory(Path({str(box.directory / "content")!r})){words})\n'


@pytest.fixture
def content(box: Box) -> None:
    (box.directory / "content/etc").mkdir(parents=True)
    (box.directory / "content/etc/motd").write_text("hello")


def test_from_create_to_archive(box: Box, content: None) -> None:
    file = box.define(body(box), head=HEAD)
    first = box.call("create", file)
    assert (first.returncode, first.stderr) == (0, "")
    assert "site: built " in first.stdout
    assert box.call("create", file).stdout.endswith(" is there\n")
    (only,) = json.loads(box.call("revisions", file, "--json").stdout)
    assert (only["name"], only["steps"]) == ("site", [])

    assert "would write nothing" not in box.call("archive", file, f"{box.directory}/x.tar", "--dry-run").stdout
    assert not (box.directory / "x.tar").exists()
    done = box.call("archive", file, f"{box.directory}/x.tar.gz", "-v")
    assert "etc/motd" in done.stdout
    with tarfile.open(box.directory / "x.tar.gz") as tar:
        assert any(name.endswith("etc/motd") for name in tar.getnames())

    (box.directory / "content/etc/motd").write_text("changed")
    box.call("create", file)
    table = box.call("revisions", file).stdout.splitlines()
    assert [line.split()[0] for line in table] == ["IMAGE", "site", "site"]
    assert table[2].split()[1] == only["version"]


def test_what_runs_on_no_image_has_none(box: Box) -> None:
    done = box.call("create", box.define('    c.command("x")\n'))
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "container: none of them runs on an image")


def test_an_image_that_nobody_builds(box: Box) -> None:
    file = box.define('    c.command("x")\n    c.bootstrap.image("site")\n')
    done = box.call("create", file)
    assert (done.returncode, "does not say how it is built" in done.stderr) == (2, True)
    done = box.call("archive", file, f"{box.directory}/x.tar")
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, "container: image site has not been built")


def test_a_build_that_fails_is_a_sentence(box: Box) -> None:
    done = box.call("create", box.define(body(box), head=HEAD))
    assert done.returncode == 1
    assert "content" in done.stderr and "Traceback" not in done.stderr


def test_steps_on_top_of_the_newest(box: Box, content: None) -> None:
    step = 'Template("greeting", "hello $who", "/etc/greeting", {"who": "you"})'
    file = box.define(body(box, step, step.replace("greeting", "parting")), head=HEAD)
    assert box.call("create", "--no-provision", file).returncode == 0
    done = box.call("provision", file, "--only", "parting")
    assert (done.returncode, done.stderr) == (0, "")
    assert "site: parting (" in done.stdout
    newest, first = json.loads(box.call("revisions", file, "--json").stdout)
    assert (newest["steps"], first["steps"]) == (["parting"], [])
    assert (box.settings.state_dir / "roots/site" / newest["version"] / "root/etc/parting").read_text() == "hello you"
    done = box.call("provision", file, "--only", "nothing")
    assert (done.returncode, "nothing" in done.stderr) == (1, True)


def test_versions_that_nobody_runs_on_are_removed(box: Box, content: None) -> None:
    words = '"sleep", "100"'  # which goes at once when it is asked to
    file = box.define(body(box).replace('"x"', words), head=HEAD)
    for name in ("bin", "usr"):  # enough of a root for one that runs
        (box.directory / "content" / name).mkdir()
    shutil.copy("/usr/bin/busybox", box.directory / "content/bin/sleep")
    box.call("create", file)
    assert box.call("run", "-d", file).returncode == 0
    versions = [json.loads(box.call("revisions", file, "--json").stdout)[0]["version"]]
    for number in range(3):
        (box.directory / "content/etc/motd").write_text(str(number))
        box.call("create", file)
        versions.append(json.loads(box.call("revisions", file, "--json").stdout)[0]["version"])
    assert box.call("prune", "site", "--keep", "2").stdout == f"site: removed {versions[1]}\n"
    record = box.record()
    assert record is not None
    os.kill(record.runner, signal.SIGKILL)  # what it ran runs on
    wait_until_free(box.settings, "web")
    assert box.call("prune", "site", "--keep", "2").stdout == ""
    assert box.call("kill", "web").returncode == 0
    assert box.call("prune").stdout.splitlines() == [
        f"site: removed {version}" for version in (versions[2], versions[0])
    ]
    done = box.call("prune", "never")
    assert (done.returncode, done.stderr.splitlines()) == (
        3,
        ["container: there is no image 'never'", "  there is: site"],
    )


def test_what_a_build_may_use(box: Box, content: None) -> None:
    bomb = "Shell('bomb', 'head -c 100000000 /dev/zero | tail > /dev/null', network=False)"
    (box.directory / "content/bin").mkdir()
    shutil.copy("/bin/busybox", box.directory / "content/bin/busybox")
    for name in ("sh", "head", "tail"):
        (box.directory / "content/bin" / name).symlink_to("busybox")
    file = box.define(body(box, bomb), head=HEAD.replace("import Template", "import Shell"))
    done = box.call("create", file, "--memory", "40M", "--cpu", "50%", "--pids", "20")
    assert done.returncode == 1
    assert "used more memory than the build may, 40M, and the kernel killed it: allow more (--memory)" in done.stderr
    assert box.call("create", file, "--memory", "40").returncode == 2
    assert box.call("create", file).returncode == 0
