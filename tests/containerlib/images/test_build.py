"""Builds: once, together, failing, killed."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from containerlib import cgroups, kernel
from containerlib.bootstrap.directory import Directory
from containerlib.bootstrap.function import Function
from containerlib.bootstrap.shell import Shell as HostShell
from containerlib.bounds import TREE
from containerlib.images import (
    Bench,
    Built,
    Config,
    Copy,
    Found,
    ImageError,
    Limits,
    Progress,
    Shell,
    StepBegan,
    Store,
    Template,
    Waiting,
    build,
    provision,
    verify,
)
from tests.plugins.images import Heard, fill_with_busybox, processes, wait_until

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def in_store(store: Store, name: str = "box") -> set[str]:
    return {path.name for path in (store.path / name).iterdir()}


@dataclass(frozen=True)
class Counting:
    """Counts how often it builds, in a file."""

    log: Path
    word: str = "x"

    def recipe(self) -> str:
        return self.word

    def build(self, root: Path, bench: Bench) -> Config:
        with self.log.open("a") as log:
            log.write(".")
        (root / "word").write_text(self.word)
        return Config(("run", self.word))


def test_the_same_recipe_is_built_once(store: Store, tmp_path: Path) -> None:
    heard = Heard()
    first = build(store, "box", Counting(tmp_path / "log"), progress=heard)
    second = build(store, "box", Counting(tmp_path / "log"), progress=heard)
    assert first == second == store.newest("box")
    assert (tmp_path / "log").read_text() == "."
    assert heard.events == [
        StepBegan("box", "bootstrap", 1, 1),
        Built("box", first.version, first.manifest.size_bytes),
        Found("box", first.version),
    ]
    assert verify(first) == []
    assert first.manifest.config == Config(("run", "x"))
    assert in_store(store) == {".lock", first.version}


def test_another_recipe_is_another_version_and_an_old_one_is_found_again(store: Store, tmp_path: Path) -> None:
    one = build(store, "box", Counting(tmp_path / "log", "one"))
    two = build(store, "box", Counting(tmp_path / "log", "two"))
    assert store.revisions("box") == [two, one]
    assert build(store, "box", Counting(tmp_path / "log", "one")) == one
    step = Template("t", "x", "/t", {})
    three = build(store, "box", Counting(tmp_path / "log", "two"), (step,))
    assert three.version not in (one.version, two.version)
    assert three.manifest.steps == ("t",)


def test_again(store: Store, tmp_path: Path) -> None:
    first = build(store, "box", Counting(tmp_path / "log"), clock=lambda: 1_000)
    second = build(store, "box", Counting(tmp_path / "log"), again=True, clock=lambda: 1_000)
    assert store.revisions("box") == [second, first]
    assert build(store, "box", Counting(tmp_path / "log")) == second


def test_whatever_the_umask_the_root_can_be_read(store: Store, tmp_path: Path) -> None:
    fill_with_busybox(tmp_path)
    old = os.umask(0o077)
    try:
        image = build(store, "box", Counting(tmp_path / "log"), (Template("t", "x", "/a/b/t", {}),))
    finally:
        os.umask(old)
    modes = [oct(path.stat().st_mode & 0o777) for path in (image.root, image.root / "a", image.root / "a/b/t")]
    assert modes == ["0o755", "0o755", "0o644"]


def test_the_root_itself_is_roots_and_open_whatever_the_source_says(store: Store, busybox: Path) -> None:
    busybox.chmod(0o700)
    os.chown(busybox, 4711, 4711)
    info = build(store, "box", Directory(busybox)).root.stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (0, 0, 0o755)


def test_two_threads_at_once(store: Store, tmp_path: Path) -> None:
    """One builds, the other is told whom it waits for, and both have the result."""
    begun, may_end = threading.Event(), threading.Event()

    def slow(root: Path, _progress: Progress) -> None:
        begun.set()
        assert may_end.wait(20)
        (root / "file").write_text("x")

    images, heard = [], Heard()
    first = threading.Thread(target=lambda: images.append(build(store, "box", Function(slow))))
    first.start()
    assert begun.wait(20)
    second = threading.Thread(target=lambda: images.append(build(store, "box", Function(slow), progress=heard)))
    second.start()
    wait_until(lambda: heard.events)
    assert heard.events == [Waiting("box", f"process {os.getpid()}")]
    assert any(name.startswith(".building-") for name in in_store(store))
    may_end.set()
    first.join(20)
    second.join(20)
    assert len(images) == 2 and images[0] == images[1]
    assert heard.events[1:] == [Found("box", images[0].version)]
    assert in_store(store) == {".lock", images[0].version}


def test_builds_of_different_names_do_not_wait(store: Store, tmp_path: Path) -> None:
    def nested(root: Path, _progress: Progress) -> None:
        build(store, "inner", Counting(tmp_path / "log"))

    build(store, "outer", Function(nested))
    assert store.names() == ["inner", "outer"]


BUILDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from containerlib import images
from containerlib.bootstrap.function import Function
from containerlib.bootstrap.directory import Directory
from containerlib.bootstrap.shell import Shell as HostShell
store, where, source = images.Store(Path(sys.argv[2])), sys.argv[3], Path(sys.argv[4])
pause = f"echo begun; sleep {sys.argv[5]}"
if where == "bootstrap program":
    images.build(store, "box", HostShell(f"touch half; {pause}"), progress=lambda event: print(event, flush=True))
elif where == "bootstrap":
    def half(root, progress):
        (root / "half").write_text("x")
        print("begun", flush=True)
        sys.stdin.read()
    images.build(store, "box", Function(half))
elif where == "step":
    images.build(store, "box", Directory(source), (images.Shell("s", pause, network=False),),
                 progress=lambda event: print(event, flush=True))
elif where == "finish":
    from containerlib import kernel
    def stop(path):
        print("begun", flush=True)
        sys.stdin.read()
    kernel.syncfs = stop
    images.build(store, "box", Directory(source))
"""


@pytest.mark.parametrize("where", ["bootstrap", "bootstrap program", "step", "finish"])
def test_a_killed_build_leaves_nothing_that_could_be_used(store: Store, busybox: Path, where: str) -> None:
    marker = f"98{os.getpid()}"  # seconds
    arguments = (sys.executable, "-c", BUILDER, ROOT, store.path, where, busybox, marker)
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as builder:
        try:
            assert builder.stdout is not None
            assert any(b"begun" in line and b"StepBegan" not in line for line in builder.stdout)
            (left,) = [name for name in in_store(store) if name.startswith(".building-")]
        finally:
            builder.kill()
    assert store.revisions("box") == [] and store.names() == []
    heard = Heard()
    image = build(store, "box", Directory(busybox), progress=heard)
    assert groups_of(builder.pid) == []
    # Nobody is waited for but what the kernel is just taking apart, and the dead builder's half goes.
    assert processes(marker) == []
    assert in_store(store) == {".lock", image.version} and left not in in_store(store)
    assert verify(image) == []


def test_a_failing_step_is_named_with_its_last_words_and_leaves_nothing(store: Store, busybox: Path) -> None:
    steps = (Shell("first", "true", network=False), Shell("second", "echo no such thing >&2\nexit 7", network=False))
    heard = Heard()
    with pytest.raises(ImageError) as caught:
        build(store, "box", Directory(busybox), steps, progress=heard)
    text = str(caught.value)
    assert text.startswith("image box: second failed: /bin/sh exited with code 7 after")
    assert "    no such thing\n" in text
    assert text.endswith("correct the script of step 'second', then build again")
    assert [event.step for event in heard.events if isinstance(event, StepBegan)] == ["bootstrap", "first", "second"]
    assert in_store(store) == {".lock"}
    assert store.revisions("box") == []


def test_a_failing_function_and_an_absent_input(store: Store, tmp_path: Path) -> None:
    def broken(_root: Path, _progress: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ImageError, match="image box: bootstrap failed: ZeroDivisionError") as caught:
        build(store, "box", Function(broken))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(ImageError, match=r"image box: recipe failed: .*absent"):
        build(store, "box", Directory(tmp_path / "absent"))


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ImageError, match=r"image box: start failed: .*file"):
        build(Store(tmp_path / "file"), "box", Counting(tmp_path / "log"))
    with pytest.raises(ValueError, match="image name 'X'"):
        build(Store(tmp_path / "store"), "X", Counting(tmp_path / "log"))


def test_only_root_builds(store: Store, tmp_path: Path) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(ImageError, match="only root can build images"):
            build(store, "box", Counting(tmp_path / "log"))
    finally:
        os.seteuid(0)


def test_a_callback_that_raises_ends_the_build(store: Store, busybox: Path) -> None:
    def stop(event: object) -> None:
        if isinstance(event, StepBegan) and event.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(store, "box", Directory(busybox), (Shell("s", "true", network=False),), progress=stop)
    assert in_store(store) == {".lock"}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    path = tmp_path / "small"
    path.mkdir()
    kernel.mount("tmpfs", str(path), "tmpfs", 0, "size=8m,mode=755,nr_inodes=500")
    yield path
    kernel.umount2(str(path), 0)


def blocks(root: Path, _progress: Progress) -> None:
    with (root / "big").open("wb") as file:
        while True:
            file.write(b"x" * 1_000_000)


def inodes(root: Path, _progress: Progress) -> None:
    for number in range(1_000):
        (root / str(number)).touch()


@pytest.mark.parametrize("fill", [blocks, inodes])
def test_a_full_disk_is_told_and_is_empty_again(small: Path, tmp_path: Path, fill: object) -> None:
    store = Store(small / "store")
    assert callable(fill)
    with pytest.raises(ImageError, match=r"No space left[^\n]*\nthe file system of .* is full: make room"):
        build(store, "box", Function(fill))
    assert in_store(store) == {".lock"}
    build(store, "box", Counting(tmp_path / "log"))


def test_a_full_disk_during_a_program(small: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "big").write_bytes(b"x" * 20_000_000)
    store = Store(small / "store")
    with pytest.raises(ImageError, match=r"(?s)cp exited with code 1.*No space left.*is full: make room"):
        build(store, "box", Directory(source))
    assert in_store(store) == {".lock"}


def test_provision_makes_a_version_on_top_of_the_newest(store: Store, busybox: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("copied")
    steps = (
        Shell("count", "echo x >> /count", network=False),
        Copy("file", tmp_path / "file", "/file"),
        Template("text", "$a", "/text", {"a": "b"}),
    )
    with pytest.raises(ImageError, match="image box was never built"):
        provision(store, "box", steps)
    base = build(store, "box", Counting(tmp_path / "log"))
    busy = build(store, "busy", Directory(busybox))
    image = provision(store, "box", steps, ("text", "file"))
    assert store.revisions("box") == [image, base]
    assert {path.name for path in image.root.iterdir()} == {"word", "file", "text"}
    assert image.manifest.steps == ("file", "text")  # in the steps' order
    assert image.manifest.config == base.manifest.config
    assert verify(base) == []
    assert provision(store, "busy", steps, ("count",)).root.joinpath("count").read_text() == "x\n"
    assert verify(busy) == []


def test_provision_of_a_step_that_is_not_there(store: Store) -> None:
    with pytest.raises(ValueError, match=r"no step is named 'x'; there are: t"):
        provision(store, "box", (Template("t", "", "/t", {}),), ("x",))


def test_two_steps_of_one_name_are_refused(store: Store, tmp_path: Path) -> None:
    step = Template("t", "", "/t", {})
    with pytest.raises(ValueError, match="steps 't': a step's name must be its own"):
        build(store, "box", Counting(tmp_path / "log"), (step, step))
    assert not (tmp_path / "log").exists()


def test_the_lock_is_not_inherited_by_scripts(store: Store, busybox: Path) -> None:
    heard = Heard()
    build(store, "box", Directory(busybox), (Shell("s", "ls -l /proc/self/fd", network=False),), progress=heard)
    assert heard.lines and not any(".lock" in line for line in heard.lines)


def groups_of(pid: int) -> list[str]:
    return [name for name in cgroups.find(TREE).names() if name.startswith(f"{pid}-")]


def test_a_memory_bomb_in_a_step_is_killed_and_told_with_the_remedy(store: Store, busybox: Path) -> None:
    bomb = Shell("bomb", "head -c 100000000 /dev/zero | tail > /dev/null", network=False)
    limits = Limits(memory_bytes=64 << 20)
    with pytest.raises(ImageError, match=r"(?s)bomb failed.*used more memory than the build may, 64M.*--memory"):
        build(store, "box", Directory(busybox), (bomb,), limits=limits)
    assert groups_of(os.getpid()) == [] and in_store(store) == {".lock"}
    build(store, "box", Directory(busybox), (bomb,), limits=Limits(memory_bytes=1 << 30))


def test_a_fork_bomb_in_a_step_is_held_until_its_time_is_over(store: Store, busybox: Path) -> None:
    marker = f"97{os.getpid()}"
    script = f"b() {{ sleep {marker} & b | b & }}; b 2>/dev/null & exec sleep 60"
    most: list[int] = []

    def count(_event: object) -> None:
        threading.Timer(1.5, lambda: most.append(len(processes(marker)))).start()

    limits = Limits(pids=40, cpu=0.5)
    with pytest.raises(ImageError, match=r"(?s)did not end within 3 s.*more processes than the build may have, 40"):
        build(
            store, "box", Directory(busybox), (Shell("b", script, network=False, timeout_s=3),),
            limits=limits, progress=lambda event: count(event) if getattr(event, "step", "") == "b" else None,
        )  # fmt: skip
    assert 1 <= max(most) <= 40
    assert processes(marker) == [] and groups_of(os.getpid()) == []


def test_a_bomb_in_the_bootstrap_is_held_as_well(store: Store) -> None:
    bomb = HostShell("head -c 100000000 /dev/zero | tail > /dev/null")
    with pytest.raises(ImageError, match=r"(?s)bootstrap failed.*used more memory than the build may, 64M"):
        build(store, "box", bomb, limits=Limits(memory_bytes=64 << 20))
