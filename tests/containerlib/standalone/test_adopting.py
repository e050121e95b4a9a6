"""Containers on an image: by the command line, on the real kernel."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from containerlib import images, kernel, rootfs
from containerlib.bootstrap.directory import Directory
from containerlib.images import Config, Image, Store
from containerlib.standalone.places import is_held
from containerlib.standalone.run import clear_away
from tests.containerlib.conftest import Box, until

pytestmark = pytest.mark.system

APPLETS = (
    "sh",
    "cat",
    "id",
    "ls",
    "stat",
    "dd",
    "touch",
    "sleep",
    "mount",
    "grep",
    "rm",
    "hostname",
    "env",
    "readlink",
    "mkdir",
)
PASSWD = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:www:/srv:/bin/sh\nbad line\n"
GROUP = "root:x:0:\nwww:x:34:\nadm:x:4:\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for name in ("bin", "etc", "proc"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", tree / "bin/busybox")
    for name in APPLETS:
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "etc/passwd").write_text(PASSWD)
    (tree / "etc/group").write_text(GROUP)
    (tree / "etc/mine").write_text("of the image\n")
    (tree / "etc/hosts").symlink_to("/etc/mine")  # would be written through
    (tree / "elsewhere").symlink_to("/proc/sys")
    (tree / "suid").write_text("x")
    (tree / "suid").chmod(0o4755)
    return tree


def build(box: Box, tree: Path, config: Config | None = None) -> Image:
    image = images.build(Store(box.settings.roots), "small", Directory(tree))
    if config is not None:
        (image.path / "manifest.json").write_bytes(replace(image.manifest, config=config).to_bytes())
    return image


def run(box: Box, script: str, body: str = "") -> list[str]:
    text = f'    c.bootstrap.image("small")\n    c.command("sh", "-c", {script!r})\n{body}'
    done = box.call("run", box.define(text))
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout.splitlines()


def end(box: Box) -> None:
    """What was started, with its pipe."""
    box.started.pop().communicate(timeout=20)


def mounts() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def test_its_root_is_the_images_and_what_it_writes_is_gone_with_it(box: Box, tree: Path) -> None:
    image, before = build(box, tree), mounts()
    script = "cat /etc/mine; echo more >> /etc/mine; cat /etc/mine; touch /new; "
    script += "stat -c '%u %g %n' /new /bin/busybox /etc/hosts; id -u"
    for _ in range(2):
        assert run(box, script) == [
            "of the image", "of the image", "more", "0 0 /new", "0 0 /bin/busybox", "0 0 /etc/hosts", "0",
        ]  # fmt: skip
    assert images.verify(image) == []
    assert mounts() == before
    assert box.names() == []


def test_what_it_may_write_has_a_limit(box: Box, tree: Path) -> None:
    build(box, tree)
    body = '    c.cgroup.memory = "600M"\n'
    out = run(box, "dd if=/dev/zero of=/big bs=1M count=400 2>&1 | grep -o 'No space left on device'", body)
    assert out == ["No space left on device"]


def test_the_hosts_files_are_out_of_reach(box: Box, tree: Path) -> None:
    build(box, tree)
    script = "ls -d /usr/lib /home /var /lib /mnt 2>/dev/null; ls /usr /usr/bin; ls /dev/../..; echo done"
    out = run(box, script)
    top = sorted(["bin", "dev", "elsewhere", "etc", "proc", "run", "suid", "sys", "tmp", "usr"])
    assert out == ["/usr:", "bin", "", "/usr/bin:", "catatonit", *top, "done"]


def test_proc_and_dev_are_its_own_and_masked(box: Box, tree: Path) -> None:
    build(box, tree)
    script = """
stat -c %F /proc/kallsyms; echo x > /dev/null && echo written; touch /dev/shm/x && echo shm
mknod /null c 1 3 2>/dev/null || echo no devices
echo 1 2>/dev/null > /proc/sys/kernel/panic || echo refused; mount -t tmpfs x /tmp 2>/dev/null || echo no mounts
grep -E '^[0-9]+ [0-9]+ [0-9:]+ / / ' /proc/self/mountinfo | grep -o 'nosuid,nodev'
grep -E '^[0-9]+ [0-9]+ [0-9:]+ / / ' /proc/self/mountinfo | grep -o ' - overlay'
ls -d /proc/[0-9]* | grep -c .
"""
    *out, processes = run(box, script)
    assert out == [
        "character special file", "written", "shm", "no devices", "refused", "no mounts", "nosuid,nodev", " - overlay",
    ]  # fmt: skip
    assert int(processes) < 8


def test_names_of_users_are_the_images(box: Box, tree: Path) -> None:
    build(box, tree)
    out = run(box, "id -u; id -g; id -G; echo $HOME $USER", '    c.user("www", groups=("adm",))\n')
    assert out == ["33", "34", "34 4", "/srv www"]


def test_files_of_etc_are_the_containers_and_no_link_is_followed(box: Box, tree: Path) -> None:
    build(box, tree)
    out = run(
        box, "cat /etc/hostname; hostname; grep -c web /etc/hosts; cat /etc/mine; ls -l /etc/resolv.conf | grep -c ."
    )
    assert out == ["web", "web", "1", "of the image", "1"]


def test_mounts_of_the_definition_are_in_it(box: Box, tree: Path, tmp_path: Path) -> None:
    build(box, tree)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/page").write_text("hello\n")
    body = (
        f'    c.mount("{tmp_path}/data", "/srv/www", readonly=True)\n'
        f'    c.mount("{tmp_path}/data/page", "/etc/page")\n    c.tmpfs("/cache", size="1M")\n    c.mask("/etc/mine")\n'
    )
    script = "cat /srv/www/page /etc/page; touch /srv/www/x 2>/dev/null || echo readonly; "
    script += "touch /cache/x && echo cache; cat /etc/mine; stat -c %u /srv"
    assert run(box, script, body) == ["hello", "hello", "readonly", "cache", "0"]


@pytest.mark.parametrize("body", ['    c.mount("/usr", "/elsewhere")\n', '    c.tmpfs("/elsewhere/kernel")\n'])
def test_a_link_of_the_image_leads_no_mount_over_what_is_kept(box: Box, tree: Path, body: str) -> None:
    build(box, tree)
    before = mounts()
    done = box.call("run", box.define(f'    c.bootstrap.image("small")\n    c.command("true")\n{body}'))
    assert done.returncode == 1
    assert "by a link of the image, which the container keeps" in done.stderr
    assert (mounts(), box.names()) == (before, [])


def test_an_image_whose_etc_leads_elsewhere_is_refused(box: Box, tree: Path) -> None:
    shutil.move(tree / "etc", tree / "other")
    (tree / "etc").symlink_to("/other")
    build(box, tree)
    done = box.call("run", box.define('    c.bootstrap.image("small")\n    c.command("sh")\n'))
    assert (done.returncode, "has a /etc that is no directory" in done.stderr) == (1, True), done.stderr
    assert box.names() == []


def test_what_the_definition_leaves_open_the_image_says(box: Box, tree: Path) -> None:
    config = Config(("sh", "-c", "id -u; echo $A $B; ls"), {"A": "image", "B": "image"}, "/etc", "www")
    build(box, tree, config)
    done = box.call("run", box.define('    c.bootstrap.image("small")\n    c.env["B"] = "mine"\n'))
    assert done.stdout.splitlines()[:3] == ["33", "image mine", "group"], done.stderr


def test_it_runs_on_the_newest_and_says_on_which(box: Box, tree: Path) -> None:
    first = build(box, tree)
    file = box.define('    c.bootstrap.image("small")\n    c.command("sleep", "100")\n    c.stop(grace="1s")\n')
    box.start("run", file)
    record = box.until_running()
    assert record.image == f"small@{first.version}"
    assert first.version in box.call("list").stdout
    (tree / "etc/mine").write_text("newer\n")
    second = build(box, tree)
    assert box.call("attach", "web", "--", "cat", "/etc/mine").stdout == "of the image\n"
    assert box.call("kill", "web").returncode == 0
    until(lambda: box.names() == [])
    end(box)
    box.start("run", file)
    record = box.until_running()
    assert record.image == f"small@{second.version}" != f"small@{first.version}"
    os.kill(record.runner, signal.SIGTERM)
    end(box)


def test_an_image_that_is_not_there(box: Box) -> None:
    done = box.call("run", box.define('    c.bootstrap.image("absent")\n    c.command("sh")\n'))
    assert done.returncode == 1
    assert "'absent' has not been built" in done.stderr and "fastcontainer container create" in done.stderr
    assert box.names() == []


def test_layers_that_a_dead_helper_left_are_cleared_away(box: Box, tree: Path) -> None:
    """As on kernels where the layers are attached for a moment, by a helper that was killed in it."""
    build(box, tree)
    file = box.define('    c.bootstrap.image("small")\n    c.command("sleep", "100")\n')
    box.start("run", file)
    record = box.until_running()
    stage = box.settings.run_dir / "web/root"
    for name in rootfs.LAYERS:
        (stage / name).mkdir()
        kernel.mount("none", str(stage / name), "tmpfs", 0)
    os.kill(record.runner, signal.SIGKILL)
    end(box)
    until(lambda: not is_held(box.settings, "web"))
    assert clear_away(box.settings, "web")
    assert not [path for path in mounts() if path.startswith(str(box.directory))]
